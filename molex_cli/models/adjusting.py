"""What a user changes of a checkpoint's architecture: settings that no weight depends on, and its dropout."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from molex_cli.errors import ModelError, nearest
from molex_cli.models.settings import Model, is_dropout

SET_HERE = ("dtype", "torch_dtype", "use_cache", "problem_type", "id2label", "label2id", "return_dict")
Shapes = Callable[[Any], Mapping[str, Any]]


def adjusted(loaded: Any, settings: Model, shapes_of: Shapes) -> Any:
    """Return a checkpoint's config with `model.config` and `model.dropout` on it; `shapes_of` builds it unfilled.

    What `model.config` says of sizes and numbers of parts describes the weights and must be true of them.
    """
    changes = {name: value for name, value in settings.config.items() if _differs(name, value, loaded, settings)}
    config = copy.deepcopy(loaded)
    for name, value in changes.items():
        setattr(config, name, value)
    if any(not is_dropout(name) for name in changes) and shapes_of(config) != shapes_of(loaded):
        raise ModelError(
            f"model.config must leave the shapes of the weights of {settings.name} as they are, got other ones by "
            f"{', '.join(changes)}; leave out what changes them, or choose other weights with model.folder=PATH"
        )
    return with_dropout(config, settings)


def with_dropout(config: Any, settings: Model) -> Any:
    """Return the config with `model.dropout` as each of its dropout probabilities; null leaves them."""
    if settings.dropout is None:
        return config
    names = [name for name, value in config.to_dict().items() if is_dropout(name) and not isinstance(value, bool)]
    if not names:
        raise ModelError(
            f"model.dropout must be null for {settings.name}, whose config has none, got {settings.dropout}; "
            "leave it out"
        )
    for name in names:
        setattr(config, name, settings.dropout)
    return config


def set_dropout(model: nn.Module, settings: Model) -> None:
    """Give `model.dropout` to the modules that drop, too: some have a probability that no config states."""
    for module in model.modules():
        if settings.dropout is not None and isinstance(module, nn.Dropout):
            module.p = settings.dropout


def _differs(name: str, value: Any, loaded: Any, settings: Model) -> bool:
    """Return whether a setting is another than the checkpoint's; raise ModelError where it must not be."""
    if name in SET_HERE or not hasattr(loaded, name):
        hint = "it is set by molex" if name in SET_HERE else nearest(name, loaded.to_dict())
        raise ModelError(f"model.config.{name} must be a setting of {loaded.model_type} for {settings.name}; {hint}")
    there = getattr(loaded, name)
    if there == value:
        return False
    if name == "model_type" or any(type(each) is int for each in (value, there)):
        raise ModelError(
            f"model.config.{name} must be that of the weights of {settings.name}, {there}, got {value}; for other "
            "weights choose model=folder model.folder=PATH"
        )
    return True
