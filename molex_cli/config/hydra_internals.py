"""All that is used of Hydra and OmegaConf beyond what they promise to keep: the one file to mend when they change."""

import argparse
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, Node

__all__ = ["BASIC_LAUNCHER", "BASIC_SWEEPER", "Callbacks", "arguments_parser", "child", "declared", "is_section"]

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
