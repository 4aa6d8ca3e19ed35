"""All that is used of Hydra and OmegaConf beyond what they promise to keep: the one file to mend when they change."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, Node, StringNode

__all__ = [
    "BASIC_LAUNCHER",
    "BASIC_SWEEPER",
    "Callbacks",
    "arguments_parser",
    "child",
    "declared",
    "is_section",
    "values_made_text",
]

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def arguments_parser() -> argparse.ArgumentParser:
    """Return the parser of Hydra's own flags."""
    return get_args_parser()


def child(config: DictConfig, name: str) -> Node | None:
    """Return the node of a key as it is declared, even where its value is missing or an interpolation."""
    node = config._get_node(name, validate_access=False)
    return node if isinstance(node, Node) else None


def is_section(node: Node | None) -> bool:
    """Return whether a node has keys of its own, which a section that is null or missing has not."""
    return isinstance(node, DictConfig) and not node._is_none() and not node._is_missing()


def declared(node: Node) -> tuple[Any, bool]:
    """Return the type that the schema gives a node, and whether null fits too."""
    return node._metadata.ref_type, node._metadata.optional


@contextmanager
def values_made_text() -> Iterator[list[tuple[str, Any]]]:
    """Collect, by full key, every value that OmegaConf turns into text while settings are composed."""
    found: list[tuple[str, Any]] = []
    convert = StringNode._validate_and_convert_impl

    def noted(node: StringNode, value: Any) -> str:
        if isinstance(value, bool | int | float):
            found.append((node._get_full_key(None), value))
        return convert(node, value)

    with patch.object(StringNode, "_validate_and_convert_impl", noted):
        yield found
