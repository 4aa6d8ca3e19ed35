"""Small repositories in the formats of real ones: RoBERTa, GPT-2, and GLUE's RTE in Parquet."""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow
import pyarrow.parquet
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer, RobertaConfig, RobertaForMaskedLM, RobertaTokenizer

from support.hub.repository import of_folder

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SIZES = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
ROBERTA = [
    "model=roberta_base",
    *(f"model.config.{name}={value}" for name, value in SIZES.items()),
    "model.config.intermediate_size=32",
]
"""What a command must say for the preset to describe the small model; all else is as it is."""
GPT2 = [
    "model=gpt2_medium",
    *("model.config." + size for size in ("vocab_size=300", "n_embd=16", "n_layer=2", "n_head=2", "n_positions=128")),
]
WORDS = [f"sentence {i} of a small corpus, which the merges are learnt from" for i in range(20)]


@cache
def roberta(seed: int = 0, shard: str = "1GB") -> dict[str, bytes]:
    """Return the files of a RoBERTa with random weights, in shards of at most some size."""
    config = RobertaConfig(
        **SIZES, intermediate_size=32, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, eos_token_id=2
    )
    torch.manual_seed(seed)
    with TemporaryDirectory() as made:
        _vocabulary(Path(made))
        RobertaTokenizer.from_pretrained(made).save_pretrained(made)
        RobertaForMaskedLM(config).save_pretrained(made, max_shard_size=shard)
        return of_folder(Path(made))


@cache
def gpt2(seed: int = 0) -> dict[str, bytes]:
    """Return the files of a GPT-2 with random weights."""
    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=2, n_head=2, n_positions=128, bos_token_id=2, eos_token_id=2)
    torch.manual_seed(seed)
    with TemporaryDirectory() as made:
        _vocabulary(Path(made))
        GPT2Tokenizer.from_pretrained(made, unk_token="</s>", bos_token="</s>", eos_token="</s>").save_pretrained(made)
        GPT2LMHeadModel(config).save_pretrained(made)
        return of_folder(Path(made))


def _vocabulary(folder: Path) -> None:
    """Write vocab.json and merges.txt of a byte-level vocabulary."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(WORDS, vocab_size=300, special_tokens=SPECIAL, show_progress=False)
    tokenizer.save_model(str(folder))


LABELS = ("entailment", "not_entailment")
CARD = """---
configs:
- config_name: rte
  data_files:
  - split: train
    path: rte/train-*
  - split: validation
    path: rte/validation-*
- config_name: cola
  data_files:
  - split: train
    path: cola/train-*
dataset_info:
- config_name: rte
  features:
  - {{name: sentence1, dtype: string}}
  - {{name: sentence2, dtype: string}}
  - {{name: label, dtype: {{class_label: {{names: {{'0': entailment, '1': not_entailment}}}}}}}}
  - {{name: idx, dtype: int32}}
  splits:
  - {{name: train, num_bytes: 1, num_examples: {train}}}
  - {{name: validation, num_bytes: 1, num_examples: {validation}}}
---
# GLUE
"""


def glue(train: int = 24, validation: int = 12, word: str = "sentence") -> dict[str, bytes]:
    """Return the files of a data set with GLUE's RTE, of so many rows, and a part of CoLA."""
    cola = pyarrow.table({"sentence": ["it is", "is it"], "label": [1, 0]})
    return {
        "README.md": CARD.format(train=train, validation=validation).encode(),
        "rte/train-00000-of-00001.parquet": _parquet(_rte(range(train), word)),
        "rte/validation-00000-of-00001.parquet": _parquet(_rte(range(train, train + validation), word)),
        "cola/train-00000-of-00001.parquet": _parquet(cola),
    }


def _rte(numbers: Sequence[int], word: str) -> pyarrow.Table:
    return pyarrow.table(
        {
            "sentence1": [f"{word} {i} of a small corpus" for i in numbers],
            "sentence2": [f"{word} {i if i % 2 else i + 1}" for i in numbers],
            "label": pyarrow.array([1 - i % 2 for i in numbers], pyarrow.int64()),
            "idx": pyarrow.array(list(numbers), pyarrow.int32()),
        }
    )


def _parquet(table: pyarrow.Table) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()
