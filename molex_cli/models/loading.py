"""Settings to a backbone: with its weights for training, or without any for counting."""

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from molex_cli.errors import ModelError, nearest
from molex_cli.models import hub
from molex_cli.models.byte_tokenizer import VOCABULARY_SIZE, byte_tokenizer
from molex_cli.models.settings import Model
from molex_cli.models.sources import local_folder, package_folder
from molex_cli.models.structure import Backbone
from molex_cli.runtime.hardware import random_stream
from molex_cli.runtime.paths import default_cache_dir, expanded


def load(settings: Model, outputs: int | None, seed: int, cache_dir: Path | None = None) -> Backbone:
    """Load the model with a head of so many outputs, or as a language model if None.

    Only the head's weights depend on the seed.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if settings.random:
        return _random(settings, outputs, seed)
    folder = local_folder(settings, cache_dir or default_cache_dir())
    source = {"pretrained_model_name_or_path": str(folder or settings.hub), "revision": settings.revision or "main"}
    online = folder is None and hub.go_offline_if_unreachable()
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        with random_stream(seed, "head"):
            model, report = _auto_class(outputs).from_pretrained(
                **source, **_head(outputs), dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError) as error:
        raise _unloadable(settings, folder, online, error) from error
    fresh = frozenset(report["missing_keys"])
    return _prepared(Backbone(model, tokenizer, settings.name, fresh, is_language_model=outputs is None))


def skeleton(settings: Model, outputs: int | None) -> Backbone:
    """Build the model on the meta device: every shape and name, no weights, no tokenizer."""
    config = _architecture(settings, outputs)
    with torch.device("meta"), _possible(settings):
        model = _auto_class(outputs).from_config(config)
        if outputs is None:
            model.tie_weights()
    return Backbone(model, None, settings.name, is_language_model=outputs is None)


def family(settings: Model) -> str:
    """Return the model's family, as transformers names it, without loading weights."""
    return str(_architecture(settings, None).model_type)


def _auto_class(outputs: int | None) -> Any:
    return AutoModelForCausalLM if outputs is None else AutoModelForSequenceClassification


def _head(outputs: int | None) -> dict[str, int]:
    return {} if outputs is None else {"num_labels": outputs}


def longest_input(backbone: Backbone) -> int | None:
    """Return the most tokens that the model has positions for, if there is a limit."""
    config = backbone.model.config
    limit = getattr(config, "max_position_embeddings", None)
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):  # their positions start after the padding id
        limit -= config.pad_token_id + 1
    return limit if isinstance(limit, int) and limit > 0 else None


def _random(settings: Model, outputs: int | None, seed: int) -> Backbone:
    config = _architecture(settings, outputs)
    with random_stream(0, "backbone"), _possible(settings):
        model = base = _auto_class(outputs).from_config(config)
    if outputs is not None:
        with random_stream(seed, "head"):
            model = _auto_class(outputs).from_config(config)
        model.base_model.load_state_dict(base.base_model.state_dict())
    tokenizer = byte_tokenizer(getattr(config, "max_position_embeddings", 512))
    return _prepared(Backbone(model, tokenizer, settings.name, is_language_model=outputs is None))


def _architecture(settings: Model, outputs: int | None) -> Any:
    if settings.config:
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
            return AutoConfig.for_model(model_type, **_head(outputs), **values)
    folder = expanded(settings.folder) if settings.folder else package_folder(settings) if settings.package else None
    if folder is None:
        hub.go_offline_if_unreachable()
    try:
        return AutoConfig.from_pretrained(folder or settings.hub, **_head(outputs))
    except (OSError, ValueError) as error:
        raise _unloadable(settings, folder, False, error) from error


@contextmanager
def _possible(settings: Model) -> Iterator[None]:
    """Turn transformers' complaints about an architecture into one line."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, AssertionError, ZeroDivisionError, StrictDataclassError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"model.config must be an architecture that can be built, got: {reason}") from error


def _prepared(backbone: Backbone) -> Backbone:
    """Give the model a padding token: decoders classify at the last token that is not padding."""
    model, tokenizer = backbone.model, backbone.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = False
    return backbone


def _unloadable(settings: Model, folder: Path | str | None, online: bool, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if folder is not None:
        return ModelError(f"model={settings.name} must be loadable from {folder}, got: {reason}")
    if online:
        return ModelError(f"model.hub must be a model on the hub, got {settings.hub}: {reason}")
    offline = "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else "the hub cannot be reached"
    return ModelError(
        f"model={settings.name} must come from the hub, got no connection ({offline}) and no cached copy; "
        "set model.folder=PATH (and model.hub=null), or choose model=minilm"
    )
