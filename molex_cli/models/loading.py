"""Settings to a backbone: with its weights for training, or without any for counting."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from molex_cli.errors import ModelError, MolexError, nearest, reason_of
from molex_cli.models.adjusting import adjusted, set_dropout, with_dropout
from molex_cli.models.byte_tokenizer import VOCABULARY_SIZE, byte_tokenizer
from molex_cli.models.hub import repositories
from molex_cli.models.settings import Model, size_problems
from molex_cli.models.sources import local_folder, on_hub
from molex_cli.models.structure import Backbone
from molex_cli.records.disk import no_room
from molex_cli.runtime.hardware import machine_memory, random_stream
from molex_cli.runtime.paths import default_cache_dir

POSITION_TABLES = ("position_embeddings", "embed_positions", "positions_embed", "wpe")  # as transformers names them


def load(settings: Model, outputs: int | None, seed: int, cache_dir: Path | None = None) -> Backbone:
    """Load the model with a head of so many outputs, or as a language model if None.

    Only the head's weights depend on the seed.
    """
    _be_quiet()
    if settings.random:
        return _random(settings, outputs, seed)
    with _folder(settings, cache_dir, weights=False) as folder:
        _require_memory(settings, outputs, _config(folder, settings, outputs))  # before gigabytes come from the hub
    with _folder(settings, cache_dir) as folder:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        with random_stream(seed, "head"):
            model, fresh, note = _with_head(folder, settings, outputs)
    set_dropout(model, settings)
    backbone = Backbone(model, tokenizer, settings.name, fresh, note, is_language_model=outputs is None)
    backbone.commit = _commit(settings)
    return _prepared(backbone)


def reader(settings: Model, outputs: int | None, cache_dir: Path | None = None) -> Backbone:
    """Build the model without weights but with its tokenizer: what rows are encoded and their lengths checked with."""
    _be_quiet()
    if settings.random:
        config = _architecture(settings, outputs)
        tokenizer = _byte_tokenizer(config)
    else:
        with _folder(settings, cache_dir, weights=False) as folder:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            config = _config(folder, settings, outputs)
    model = _unfilled(settings, outputs, config)
    return _prepared(Backbone(model, tokenizer, settings.name, is_language_model=outputs is None))


def skeleton(
    settings: Model, outputs: int | None, device: str = "meta", dtype: torch.dtype = torch.float32
) -> Backbone:
    """Build the model on the meta device: every shape and name, no weights, no tokenizer.

    On another device its weights are random, as the family draws them, or none where torch's tensors are fake.
    """
    model = _unfilled(settings, outputs, _architecture(settings, outputs), device, dtype)
    if outputs is None:
        model.tie_weights()
    return Backbone(model, None, settings.name, is_language_model=outputs is None)


def family(settings: Model) -> str:
    """Return the model's family, as transformers names it, without loading weights."""
    return str(_architecture(settings, None).model_type)


def _auto_class(outputs: int | None) -> Any:
    return AutoModelForCausalLM if outputs is None else AutoModelForSequenceClassification


def _head(outputs: int | None) -> dict[str, int | None]:
    """Return what a config says of a head: its outputs, and no problem, which a folder may have from another task."""
    return {} if outputs is None else {"num_labels": outputs, "problem_type": None}


def _be_quiet() -> None:
    """Let transformers say errors alone: what a run shows is ours to say."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


@contextmanager
def _folder(settings: Model, cache_dir: Path | None, *, weights: bool = True) -> Iterator[Path]:
    """Yield the folder with the model's files, got from the hub if need be, and turn complaints into one line."""
    source = on_hub(settings)
    folder = None
    try:
        if source:
            folder = repositories.folder(source, weights=weights)
        else:
            folder = local_folder(settings, cache_dir or default_cache_dir())
        assert folder is not None  # models of random weights do not come here
        yield folder
    except MolexError:
        raise
    except Exception as error:  # there is no end to what the libraries raise for damaged files
        told = no_room(error) or _needs_code(settings, error)
        raise told or _unloadable(settings, folder, error) from error


def _commit(settings: Model) -> str | None:
    """Return the commit of the hub that the model is of."""
    source = on_hub(settings)
    return repositories.at(source).commit if source else None


def _with_head(folder: Path, settings: Model, outputs: int | None) -> tuple[Any, frozenset[str], str]:
    """Return the model, the names of its fresh parameters and, where the head that it came with did not fit, a note."""
    config = _config(folder, settings, outputs)
    model, report = _auto_class(outputs).from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        trust_remote_code=False,
    )
    inside = f"{model.base_model_prefix}."
    misfits = sorted(report["mismatched_keys"])  # name, shape in the files, shape in the model
    for name, there, here in misfits:
        if outputs is None or name.startswith(inside):
            raise ValueError(f"{name} is {list(there)} in its files and {list(here)} by its config")
    heads = ", ".join(f"{name} of {list(there)}" for name, there, _ in misfits)
    note = f"the head that the model came with is left out, a fresh one of {outputs} outputs trained: {heads}"
    return model, frozenset(report["missing_keys"]), note if misfits else ""


def _config(folder: Path, settings: Model, outputs: int | None) -> Any:
    """Return the architecture in the model's files, changed as the settings ask."""
    loaded = AutoConfig.from_pretrained(folder, trust_remote_code=False, **_head(outputs))
    return adjusted(loaded, settings, partial(_shapes, settings, outputs))


def longest_input(backbone: Backbone) -> int | None:
    """Return the most tokens that the model has positions for, if there is a limit.

    A table of positions is one; in a table with a padding row the positions begin after it. Rotated positions have
    what the config states, relative ones none.
    """
    config = backbone.model.config
    stated = getattr(config, "max_position_embeddings", None)
    limits = [stated] if isinstance(stated, int) and stated > 0 else []
    tables = [
        module
        for name, module in backbone.model.named_modules()
        if name.rpartition(".")[2] in POSITION_TABLES and isinstance(module, nn.Embedding)
    ]
    if not tables and getattr(config, "relative_attention", False):
        return None
    for table in tables:
        before = getattr(table, "offset", 0 if table.padding_idx is None else table.padding_idx + 1)
        limits.append(table.num_embeddings - before)
    return min(limits, default=None)


def _random(settings: Model, outputs: int | None, seed: int) -> Backbone:
    config = _architecture(settings, outputs)
    _require_memory(settings, outputs, config)
    with random_stream(0, "backbone"), _possible(settings):
        model = base = _auto_class(outputs).from_config(config, trust_remote_code=False)
    if outputs is not None:
        with random_stream(seed, "head"):
            model = _auto_class(outputs).from_config(config, trust_remote_code=False)
        model.base_model.load_state_dict(base.base_model.state_dict())
    set_dropout(model, settings)
    return _prepared(Backbone(model, _byte_tokenizer(config), settings.name, is_language_model=outputs is None))


def _byte_tokenizer(config: Any) -> Any:
    return byte_tokenizer(getattr(config, "max_position_embeddings", 512))


def _shapes(settings: Model, outputs: int | None, config: Any) -> dict[str, Any]:
    """Return the shape of every weight by name."""
    return {name: tensor.shape for name, tensor in _unfilled(settings, outputs, config).named_parameters()}


def _unfilled(
    settings: Model, outputs: int | None, config: Any, device: str = "meta", dtype: torch.dtype = torch.float32
) -> Any:
    """Return the model on the meta device, or another; raise ModelError where it cannot be built."""
    if found := list(size_problems(config.to_dict())):
        raise ModelError(f"model.config.{found[0]}")
    with torch.device(device), _possible(settings):
        return _auto_class(outputs).from_config(config, dtype=dtype, trust_remote_code=False)


def _require_memory(settings: Model, outputs: int | None, config: Any) -> None:
    """Raise ModelError, before anything is allocated, for a model that this machine has no memory for."""
    shapes = _shapes(settings, outputs, config).values()
    needed, there = 4 * sum(shape.numel() for shape in shapes), machine_memory()
    if needed > there:
        raise ModelError(
            f"model={settings.name} must fit into the memory of this machine, {there / 2**30:,.1f} GiB, got "
            f"{needed / 2**30:,.1f} GiB of weights; choose a smaller one, or molex plan, which loads none"
        )


def _architecture(settings: Model, outputs: int | None) -> Any:
    """Return the config that the settings describe or, where they name no family, that of the files, adjusted.

    What they describe is the main branch: that of another revision is read.
    """
    if settings.random or ("model_type" in settings.config and settings.revision is None):
        values = dict(settings.config)
        model_type = values.pop("model_type", None)
        if model_type not in transformers.CONFIG_MAPPING:
            choices = nearest(str(model_type), transformers.CONFIG_MAPPING)
            raise ModelError(f"model.config.model_type must be known to transformers, got {model_type}; {choices}")
        known = AutoConfig.for_model(model_type)
        for key in values:
            # Some settings have no default and so are not known; what is nearly a known name is a slip.
            if not hasattr(known, key) and difflib.get_close_matches(key, vars(known), n=1, cutoff=0.85):
                raise ModelError(f"model.config.{key} is no setting of {model_type}; {nearest(key, vars(known))}")
        if settings.random:
            values = {"vocab_size": VOCABULARY_SIZE, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2} | values
        with _possible(settings):
            return with_dropout(AutoConfig.for_model(model_type, **_head(outputs), **values), settings)
    with _folder(settings, None, weights=False) as folder:
        return _config(folder, settings, outputs)


@contextmanager
def _possible(settings: Model) -> Iterator[None]:
    """Turn transformers' complaints about an architecture into one line."""
    try:
        yield
    except MolexError:
        raise
    except Exception as error:
        told = _needs_code(settings, error)
        built = f"model.config must be an architecture that can be built, got: {reason_of(error)}"
        raise told or ModelError(built) from error


def _prepared(backbone: Backbone) -> Backbone:
    """Give the model a padding token: decoders classify at the last token that is not padding."""
    model, tokenizer = backbone.model, backbone.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = False
    return backbone


def _needs_code(settings: Model, error: Exception) -> ModelError | None:
    """Return the line of a model that transformers can load with the model's own code alone; None if it is not that."""
    if "trust_remote_code" not in str(error):
        return None
    return ModelError(
        f"model={settings.name} must need no code of its own, got auto_map in its config or that of its tokenizer; "
        "molex runs no code that comes with a model: choose one of a family that transformers has"
    )


def _unloadable(settings: Model, folder: Path | None, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    way_out = ""
    if folder and settings.hub:
        way_out = f"; if a file there is damaged, remove {folder.parents[1]} and run it again, which gets it anew"
    where = folder or settings.hub or f"{settings.folder or settings.package}/{settings.gguf}"
    return ModelError(f"model={settings.name} must be loadable from {where}, got: {reason}{way_out}")
