"""Texts to token ids, once: cached by the content of texts and tokenizer."""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from molex_cli.data.reading import Split
from molex_cli.errors import ModelError
from molex_cli.records.partial import remove_stale, renamed_when_whole
from molex_cli.runtime.paths import require_file

FORMAT = 2  # of what is cached


NONE = np.array([], dtype=np.int64)


@dataclass(frozen=True)
class Encoded:
    """Token ids of a split, one row after the other; row i is tokens[offsets[i]:offsets[i+1]].

    An example is one row, or, where `groups` says so, several: one for each choice.
    """

    ids: list[str]
    """Example ids."""
    labels: list[Any]
    tokens: np.ndarray
    types: np.ndarray
    """Token type of each token, 0 or 1; empty for models without types."""
    offsets: np.ndarray
    starts: np.ndarray = field(default_factory=lambda: NONE)
    """For language models, by row: the index of the answer's first token."""
    groups: np.ndarray = field(default_factory=lambda: NONE)
    """Example i has the rows from groups[i] to groups[i+1]; empty where each has one."""
    cut: int | None = None
    """For language models: how many prompts were too long and lost their middle."""
    left_out: int = 0
    """Training rows whose answer was too long."""

    @property
    def lengths(self) -> list[int]:
        """Return the number of tokens of each example, all its rows together."""
        return np.diff(self.offsets[self.groups] if self.groups.size else self.offsets).tolist()

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return token ids and types of one row."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.tokens[span], self.types[span]

    def rows_of(self, examples: Sequence[int]) -> list[int]:
        """Return the rows of some examples."""
        if not self.groups.size:
            return list(examples)
        return [row for example in examples for row in range(self.groups[example], self.groups[example + 1])]

    def first(self, count: int) -> "Encoded":
        """Return the first examples."""
        count = min(count, len(self.ids))
        rows = int(self.groups[count]) if self.groups.size else count
        end = self.offsets[rows]
        return Encoded(
            ids=self.ids[:count],
            labels=self.labels[:count],
            tokens=self.tokens[:end],
            types=self.types[:end],
            offsets=self.offsets[: rows + 1],
            starts=self.starts[:rows],
            groups=self.groups[: count + 1],
        )


def encode_pairs(split: Split, tokenizer: Any, max_length: int, cache_dir: Path) -> Encoded:
    """Return a row for each question and choice: the columns as one text, then the choice."""
    texts: list[tuple[str, ...]] = [
        (" ".join(filter(None, text)), choice)
        for text, choices in zip(split.texts, split.choices, strict=True)
        for choice in choices
    ]
    rows = encode(dataclasses.replace(split, texts=texts), tokenizer, max_length, cache_dir)
    sizes = [len(choices) for choices in split.choices]
    return dataclasses.replace(rows, groups=np.concatenate([[0], np.cumsum(sizes)]))


def encode(split: Split, tokenizer: Any, max_length: int, cache_dir: Path) -> Encoded:
    """Return the split's tokens, from the cache when the same texts were encoded before."""
    key = _key(split, tokenizer, max_length)
    path = cache_dir / "tokens" / f"{key}.npz"
    arrays = _cached(path)
    if arrays is None:
        try:
            arrays = _tokenised(split, tokenizer, max_length)
        except Exception as error:
            if type(error) is not Exception:  # the tokenizers library has no class of its own for its errors
                raise
            reason = " ".join(str(error).split())
            raise ModelError(f"the model's tokenizer must take the rows, got a damaged one: {reason}") from None
        _keep(path, arrays)
    return Encoded(split.ids, split.labels, arrays["tokens"], arrays["types"], arrays["offsets"])


def _key(split: Split, tokenizer: Any, max_length: int) -> str:
    parts = [FORMAT, max_length, tokenizer.model_input_names, _identity(tokenizer), split.texts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _identity(tokenizer: Any) -> str:
    """Return all that decides which tokens a tokenizer gives."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
        return str(backend.to_str())
    import transformers

    with TemporaryDirectory() as folder:  # one in Python alone: its class and the files that it would be loaded from
        tokenizer.save_pretrained(folder)
        files = {path.name: path.read_bytes().hex() for path in sorted(Path(folder).rglob("*")) if path.is_file()}
    return json.dumps([type(tokenizer).__name__, transformers.__version__, files])


def _tokenised(split: Split, tokenizer: Any, max_length: int) -> dict[str, np.ndarray]:
    columns = [list(column) for column in zip(*split.texts, strict=True)]
    batch = tokenizer(*columns, truncation=True, max_length=max_length, padding=False)
    rows = [tokens or [_for_nothing(tokenizer)] for tokens in batch["input_ids"]]
    lengths = [len(tokens) for tokens in rows]
    types = [t for row in batch.get("token_type_ids", []) for t in row or [0]]
    return {
        "tokens": np.array([t for row in rows for t in row], dtype=np.int32),
        "types": np.array(types, dtype=np.int8),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    }


def _for_nothing(tokenizer: Any) -> int:
    """Return the token that stands for an empty text where the tokenizer puts none around it, as GPT-2's does not."""
    known = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return next(token for token in known if token is not None)


def _cached(path: Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(require_file(path), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("tokens", "types", "offsets")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there, or half a file: encode again
        return None


def _keep(path: Path, arrays: dict[str, np.ndarray]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent, path.name)
        # numpy appends .npz to a name that lacks it, so it gets an open file.
        with renamed_when_whole(path) as temporary, temporary.open("wb") as file:
            np.savez(file, tokens=arrays["tokens"], types=arrays["types"], offsets=arrays["offsets"])
    except OSError:  # a cache that cannot be written costs time, nothing else
        return
