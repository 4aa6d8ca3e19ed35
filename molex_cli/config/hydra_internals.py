"""All that is used of Hydra and OmegaConf beyond what they promise to keep: the one file to mend when they change."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hydra import compose, version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, Node, StringNode
from omegaconf._utils import get_yaml_loader
from omegaconf.base import Container
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import GrammarParseError, InterpolationResolutionError
from omegaconf.grammar_parser import parse

__all__ = [
    "BASIC_LAUNCHER",
    "BASIC_SWEEPER",
    "Callbacks",
    "arguments_parser",
    "bounded_interpolations",
    "child",
    "composed",
    "declared",
    "files",
    "files_seen",
    "full_key",
    "header_problem",
    "interpolation_problem",
    "is_section",
    "resolvers_kept",
    "values_made_text",
    "yaml_loader",
]

MOST_INTERPOLATIONS, LONGEST_INTERPOLATION = 500, 2**17
LONGEST_WITH_VARIABLES = 4_000
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
def _found(folder: Path, others: Sequence[Path]) -> Iterator[ConfigLoader]:
    """Let Hydra look for files in a folder and in others, as its flags -cp and -cd do."""
    search_path = create_config_search_path(str(folder))
    for other in others:
        search_path.prepend("command-line", f"file://{other}", SearchPathQuery(provider="schema"))
    base = version.VersionBase.instance()
    # Whoever calls us from Python may be an application of Hydra's: both are its own again afterwards.
    with patch.object(GlobalHydra.instance(), "hydra", None), patch.object(base, "version_base", base.version_base):
        version.setbase("1.3")
        yield Hydra.create_main_hydra2(task_name="app", config_search_path=search_path).config_loader


def composed(folder: Path, name: str, others: Sequence[Path], overrides: Sequence[str]) -> DictConfig:
    """Compose the file of a name with all of Hydra's own settings; `folder` and `others` are its -cp and -cd."""
    with _found(folder, others):
        return compose(name, overrides=list(overrides), return_hydra_config=True)


def files(folder: Path, name: str, others: Sequence[Path], overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Return every file that `composed` reads, as its path in a folder without .yaml, and the part that it makes."""
    with _found(folder, others) as loader:
        found = loader.compute_defaults_list(name, list(overrides), RunMode.RUN).defaults
    return [(each.config_path, each.package or "") for each in found if each.config_path]


@contextmanager
def resolvers_kept() -> Iterator[None]:
    """Take back what is registered meanwhile as a resolver: those of OmegaConf are everybody's."""
    with patch.dict(BaseContainer._resolvers):
        yield


def full_key(node: Node) -> str:
    """Return the key of a node from the root on."""
    return str(node._get_full_key(None))


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


@contextmanager
def files_seen(see: Callable[[Path], None]) -> Iterator[None]:
    """Call a function with the path of each file of settings before Hydra reads it, here and in its applications."""
    load = ConfigRepository.load_config

    def seen_load(repository: ConfigRepository, config_path: str) -> ConfigResult | None:
        source = repository._find_object_source(config_path, ObjectType.CONFIG)
        schemes = {"file": Path, "pkg": resources.files}
        if source is not None and source.provider != "hydra" and source.scheme() in schemes:
            folder = schemes[source.scheme()](source.path)
            if isinstance(path := folder / source._normalize_file_name(config_path), Path):
                see(path)
        return load(repository, config_path)

    with patch.object(ConfigRepository, "load_config", seen_load):
        yield


def yaml_loader() -> Any:
    """Return the class that reads YAML as OmegaConf does."""
    return get_yaml_loader()


def header_problem(text: str) -> str:
    """Return what is wrong with the comments that a file of settings begins with; nothing where nothing is."""
    try:
        ConfigSource._get_header_dict(text)
    except ValueError as error:
        return str(error)
    return ""


def interpolation_problem(text: str) -> str:
    """Return what is wrong with the variables in a text; nothing where nothing is."""
    if "${" not in text:
        return ""
    if len(text) > LONGEST_WITH_VARIABLES:
        return f"more than {LONGEST_WITH_VARIABLES:,} letters"
    try:
        parse(text)
    except RecursionError:
        return "too deep"
    except GrammarParseError as error:
        return " ".join(str(error).split())[:100]
    return ""


@contextmanager
def bounded_interpolations() -> Iterator[None]:
    """Let variables of one configuration name others so often and no oftener: each may name two, and those two each."""
    resolve, count = Container.resolve_parse_tree, 0

    def counted(container: Container, *arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        try:
            found = resolve(container, *arguments, **named)
        except RecursionError:
            raise InterpolationResolutionError("variables name one another too deeply") from None
        if count > MOST_INTERPOLATIONS or (isinstance(found, str) and len(found) > LONGEST_INTERPOLATION):
            raise InterpolationResolutionError("variables that name one another must come to an end")
        return found

    with patch.object(Container, "resolve_parse_tree", counted):
        yield
