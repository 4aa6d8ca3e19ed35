"""Every choice of a group as an experiment, for tables: what is shared is composed once, not by Hydra for each."""

from collections.abc import Iterator, Sequence

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from molex_cli.config import overrides, schema
from molex_cli.config.command_line import CommandLine, conf_dir
from molex_cli.config.hydra_internals import values_made_text
from molex_cli.config.parsing import key_of
from molex_cli.errors import ConfigError, MolexError

SCHEMA, HERE = "/schema/", "@_here_"
APART = ("data_dir", "cache_dir", "output_dir")  # settings that no choice has a say in


def experiments(
    group: str, names: Sequence[str], given: Sequence[str]
) -> Iterator[tuple[str, schema.Experiment | MolexError]]:
    """Yield each choice with its experiment, or with the error of one that cannot be composed."""
    shared = OmegaConf.structured(overrides.checked(CommandLine(overrides=list(given))))
    is_apart = all(key_of(text) in APART for text in given)
    for name in names:
        found = _laid_over(shared, group, name) if is_apart else None
        yield name, found or _composed(group, name, given)


def _laid_over(shared: DictConfig, group: str, name: str) -> schema.Experiment | None:
    """Return the experiment with a choice's file in place of its section; None where Hydra has to do it.

    That is where the file is made of more than its schema and itself, or where something is wrong with it.
    """
    try:
        with values_made_text() as made:
            shared[group] = _section(group, name)
            experiment = schema.resolve(shared)
        return None if made else experiment
    except (ConfigError, OmegaConfBaseException, YAMLError, OSError, ValueError):
        return None


def _section(group: str, name: str) -> DictConfig:
    """Return the content of a file on top of its schema; raise ValueError if it has other defaults."""
    content = OmegaConf.load(conf_dir() / group / f"{name}.yaml")
    assert isinstance(content, DictConfig)
    base, *rest = content.pop("defaults", [""])
    if rest != ["_self_"] or not (base.startswith(SCHEMA) and base.endswith(HERE)):
        raise ValueError(f"{name} has other defaults")
    node = ConfigStore.instance().load(f"{base.removeprefix('/').removesuffix(HERE)}.yaml").node
    merged = OmegaConf.merge(node, content)
    assert isinstance(merged, DictConfig)
    return merged


def _composed(group: str, name: str, given: Sequence[str]) -> schema.Experiment | MolexError:
    try:
        return overrides.checked(CommandLine(overrides=[*given, f"{group}={name}"]))
    except MolexError as error:
        return error
