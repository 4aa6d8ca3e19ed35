"""Settings of a backbone; no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_PARTS = 1_000
"""Layers of a model, or experts of one: more are a slip, and would take hours to build."""
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")  # names of one setting in text models' configs


@dataclass(kw_only=True)
class Model:
    """One backbone from one source: hub, folder, package or random weights."""

    name: str
    """Name in tables and folders."""
    hub: str | None = None
    """Id on the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub; null takes main. The record has the commit."""
    folder: str | None = None
    """Folder with config.json, weights and tokenizer."""
    package: str | None = None
    """Python package that ships the weights."""
    package_folder: str = "."
    """Folder of the weights inside the package."""
    pip: str | None = None
    """Command that installs the package."""
    gguf: str | None = None
    """GGUF file in the folder or package; converted once and cached."""
    random: bool = False
    """Build `config` with random weights and a byte vocabulary; for tests."""
    config: dict[str, Any] = field(default_factory=dict)
    """Architecture, as in config.json: describes it, so that `molex plan` counts without a download, and must fit the
    weights that are loaded; what no weight depends on may be another than theirs."""
    dropout: float | None = None
    """Every dropout probability of the model itself; null leaves those of its config."""
    learning_rate_scale: float = 1.0
    """Multiplies the method's recommended learning rate: small models take larger ones."""

    def num_layers(self) -> int | None:
        """Return the number of layers as far as the settings tell, under whichever name the family has for it."""
        given = (self.config[name] for name in LAYERS if name in self.config)
        return next((number for number in given if isinstance(number, int)), None)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these settings."""
        sources = [name for name in ("hub", "folder", "package") if getattr(self, name)]
        if self.random:
            sources.append("random")
        if len(sources) != 1:
            yield f" must have one source of hub, folder, package, random, got {' and '.join(sources) or 'none'}"
        yield from (f".config.{problem}" for problem in size_problems(self.config))
        if self.learning_rate_scale <= 0:
            yield f".learning_rate_scale must be above 0, got {self.learning_rate_scale}"
        if self.random and "model_type" not in self.config:
            yield ".config must give model_type for random weights, got none"
        if self.dropout is not None and not 0 <= self.dropout < 1:
            yield f".dropout must be at least 0 and below 1, got {self.dropout}"
        for name in filter(is_dropout, self.config if self.dropout is not None else ()):
            yield f".dropout must be null where model.config.{name} is set, got {self.dropout}"


def size_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield which numbers of parts of an architecture are below 0, or too many to be built."""
    for name, value in config.items():
        is_number = name.startswith(("num_", "n_")) or name in LAYERS
        if not is_number or not isinstance(value, int):
            continue
        if value < 0:
            yield f"{name} must be at least 0, got {value}"
        elif value > MOST_PARTS and ("layer" in name or "experts" in name):
            yield f"{name} must be at most {MOST_PARTS:,}, got {value:,}"


def is_dropout(name: str) -> bool:
    """Return whether a setting of an architecture is a dropout probability, by the names that transformers uses."""
    return "dropout" in name or name.endswith("pdrop")
