"""The command line against the settings' schema: every mistake named at once, before Hydra runs.

Hydra stops at the first mistake, lets `+train.foo=1` pass and lists no choices of nested groups. Here the overrides
are parsed and split into choices of files and single settings; the files of conf/ are composed, each setting is
checked on the typed result, and sweeps are expanded into jobs. Every step returns its result and the problems it found.
"""

import copy
import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from molex_cli.config import environment, own_files, schema, texts
from molex_cli.config import hydra_settings as hydras
from molex_cli.config.command_line import CommandLine, conf_dir
from molex_cli.config.hydra_internals import (
    BASIC_SWEEPER,
    bounded_interpolations,
    composed,
    files,
    values_made_text,
)
from molex_cli.config.parsing import is_hydra, key_of, one_line, parsed
from molex_cli.config.problems import form_problems, group_problems, is_free_form, value_problems
from molex_cli.config.run_id import Job
from molex_cli.config.search_path import SEARCH_PATH, with_home
from molex_cli.config.sweeps import (
    as_text,
    choices_of,
    listed,
    needs_optimiser,
    size_problems,
    sweep_problems,
    values_of,
)
from molex_cli.errors import ConfigError

Configs = Mapping[tuple[str, ...], DictConfig]
"""The composed settings of each combination of the groups' files."""


def checked(line: CommandLine) -> schema.Experiment:
    """Return the (first) experiment of the command line; raise with every problem."""
    found, _ = jobs(line)
    return found[0].experiment


@environment.guarded()
def jobs(line: CommandLine) -> tuple[list[Job], CommandLine]:
    """Return every job of the command line, the last sweep going fastest, and the line as Hydra takes it.

    Raises ConfigError with every problem.
    """
    schema.register()
    _require_config(line)
    line = _with_search_path(line)
    given, unreadable = _parse(line)
    if too_many := list(size_problems(given)):
        raise ConfigError([*unreadable, *too_many])
    groups, settings, unknown = _split(given, line)
    configs, own, uncomposed = _compose(line, groups)
    fitting, misfits = _check(settings, configs)
    unread = _hydra_problems(given, groups, own, line)
    kept = {o.key_or_group for o in (*groups, *fitting)}
    found, unresolved = _expand([o for o in given if o.key_or_group in kept], configs)
    if problems := [*unreadable, *unknown, *uncomposed, *misfits, *unread, *unresolved]:
        raise ConfigError(dict.fromkeys(problems))
    first = next(iter(configs.values()))
    return found, dataclasses.replace(line, overrides=[_for_hydra(o, first) for o in given])


@environment.guarded()
def hydra_settings(line: CommandLine, *, is_checked: bool = True) -> DictConfig:
    """Return Hydra's own part of the settings, with its launcher and sweeper, as the (first) job's groups make it."""
    given, _ = parsed(line.overrides)
    groups = [listed(o, line.folders) for o in given if o.key_or_group in schema.GROUPS]
    # Hydra's settings may name ours, as the size of a pool does; before ours are checked only its own count.
    fixed = [o for o in given if o.key_or_group not in schema.GROUPS and not o.is_sweep_override()]
    own = [
        o.input_line or ""
        for o in fixed
        if hydras.works(o.key_or_group) or (is_checked and not is_hydra(o.key_or_group))
    ]
    config = _composed(line, groups, [choices_of(group)[0] for group in groups], own)
    if problems := list(hydras.plugin_problems({(): config.hydra})):
        raise ConfigError(problems)
    return config


def _require_config(line: CommandLine) -> None:
    """Raise if the file that the settings begin with is in no folder."""
    folders = [line.config_path, *line.extra_dirs]
    if not any((folder / f"{line.config_name}.yaml").is_file() for folder in folders):
        flag = "--config-path" if line.config_name == "config" else "--config-name"
        raise ConfigError(
            f"{flag} must lead to a file {line.config_name}.yaml, got none in {' or '.join(map(str, folders))}; "
            "--config-dir=DIR adds a folder to the shipped one"
        )


def _with_search_path(line: CommandLine) -> CommandLine:
    """Return the line with the folders that hydra.searchpath adds to it, in an override or in a file of one's own."""
    paths = [text for text in line.overrides if key_of(text) == SEARCH_PATH]
    if line.config_path == conf_dir() and not paths:
        return line
    line = with_home(line)
    try:
        with warnings.catch_warnings(action="ignore"):  # Hydra's, of what is said below
            found = hydras.search_folders(_composed(line, [], []).hydra)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"hydra.searchpath must have folders and pkg://NAME, got: {one_line(error)}") from None
    if missing := [folder for folder in found if not folder.is_dir()]:
        raise ConfigError(f"hydra.searchpath must have folders that are there, got {missing[0]}")
    return dataclasses.replace(line, searched=[folder for folder in found if folder not in line.folders])


def _parse(line: CommandLine) -> tuple[list[Override], list[str]]:
    """Return the overrides, the last one of each key; sweeps only where the line asks for several runs."""
    given, problems = parsed(line.overrides)
    if line.multirun:
        presets, unreadable = _presets(given, line)
        given, problems = [*presets, *given], [*problems, *unreadable]
    fitting = {}
    for override in {o.key_or_group: o for o in given}.values():
        override = listed(override, line.folders)
        if found := list(_override_problems(override, line)):
            problems += found
        else:
            fitting[override.key_or_group] = override
    return list(fitting.values()), problems


def _override_problems(override: Override, line: CommandLine) -> Iterator[str]:
    """Yield what is wrong with an override by itself."""
    yield from form_problems(override)
    if is_hydra(override.key_or_group):
        yield from hydras.override_problems(override)
    elif override.is_sweep_override() and not line.multirun:
        _, _, value = (override.input_line or "").partition("=")
        yield f"{override.key_or_group} must be one value, got {value}; molex train -m takes several, as a sweep"
    else:
        yield from sweep_problems(override, line.folders)


def _presets(given: Sequence[Override], line: CommandLine) -> tuple[list[Override], list[str]]:
    """Return the sweeps that an experiment brings as hydra.sweeper.params, less those of the command line."""
    groups = [listed(o, line.folders) for o in given if o.key_or_group in schema.GROUPS]
    if any(not choices_of(o) or group_problems(o, line) for o in groups):
        return [], []
    try:
        params = OmegaConf.select(hydra_settings(line, is_checked=False), "hydra.sweeper.params") or {}
    except ConfigError as error:
        return [], error.problems
    keys = {o.key_or_group for o in given}
    return parsed([f"{key}={as_text(value)}" for key, value in params.items() if key not in keys])


def _split(given: Sequence[Override], line: CommandLine) -> tuple[list[Override], list[Override], list[str]]:
    """Return the choices of files that are there, and the settings, less those of a group whose file is not there."""
    found = {o.key_or_group: group_problems(o, line) for o in given if o.key_or_group in schema.GROUPS}
    groups = [o for o in given if found.get(o.key_or_group) == []]
    settings = [
        o
        for o in given
        if o.key_or_group not in schema.GROUPS
        and not is_hydra(o.key_or_group)
        and not found.get(o.key_or_group.split(".")[0])
    ]
    return groups, settings, [problem for problems in found.values() for problem in problems]


def _compose(line: CommandLine, groups: Sequence[Override]) -> tuple[Configs, Configs, list[str]]:
    """Return the settings of each combination of the groups' files, ours and Hydra's."""
    configs, own, problems = {}, {}, []
    for choice in product(*(choices_of(group) for group in groups)):
        try:
            config = _composed(line, groups, choice)
        except ConfigError as error:
            problems += error.problems
            continue
        with open_dict(config):
            own[choice] = config.pop("hydra")
        configs[choice] = config
    return configs, own, problems


def _hydra_problems(
    given: Sequence[Override], groups: Sequence[Override], own: Configs, line: CommandLine
) -> list[str]:
    """Return what is wrong with Hydra's own settings as the files make them, and which sweep needs another sweeper."""
    choices = [] if line.folders == [conf_dir()] else list(own)
    read = dict.fromkeys(each for choice in choices for each in _files(line, groups, choice))
    problems = list(hydras.file_problems(read, conf_dir()))
    if strange := list(hydras.plugin_problems(own)):
        return [*problems, *strange]
    problems += hydras.sharing_problems(own)
    chosen = [o.value() for o in given if o.key_or_group == "hydra/sweeper"]
    if chosen == ["basic"] or (not chosen and any(o.sweeper.get("_target_") == BASIC_SWEEPER for o in own.values())):
        problems += [problem for o in given for problem in needs_optimiser(o)]
    return problems


def _check(settings: Sequence[Override], configs: Configs) -> tuple[list[Override], list[str]]:
    """Return the settings that fit all composed ones."""
    found = {o.key_or_group: [p for config in configs.values() for p in value_problems(o, config)] for o in settings}
    fitting = [o for o in settings if not found[o.key_or_group]]
    return fitting, [problem for problems in found.values() for problem in problems]


def _expand(given: Sequence[Override], configs: Configs) -> tuple[list[Job], list[str]]:
    """Return the product of all values, in the order in which their keys stand in the command line."""
    found, problems = [], []
    for chosen in product(*([(o, value) for value in values_of(o)] for o in given)):
        combination = tuple(as_text(value) for o, value in chosen if o.key_or_group in schema.GROUPS)
        if combination not in configs:
            continue
        trial = copy.deepcopy(configs[combination])
        differs = tuple(f"{o.key_or_group}={as_text(value)}" for o, value in chosen if o.is_sweep_override())
        try:
            for override, value in chosen:
                if override.key_or_group not in schema.GROUPS:
                    OmegaConf.update(trial, override.key_or_group, value, force_add=True)
            with bounded_interpolations():
                found.append(Job(differs, schema.resolve(trial)))
        except ConfigError as error:
            problems += error.problems
        except OmegaConfBaseException as error:
            problems.append(one_line(error))
    return found, problems


def _composed(
    line: CommandLine, groups: Sequence[Override], choice: Sequence[str], own: Sequence[str] = ()
) -> DictConfig:
    """Return the settings of a choice of groups with Hydra's own, these changed as given."""
    overrides = [*_chosen(line, groups, choice), *(text for text in own if key_of(text) != SEARCH_PATH)]
    try:
        with own_files.judged() as read, values_made_text() as made:
            config = composed(line.config_path, line.config_name, line.extra_dirs, overrides)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        where = own_files.place(getattr(error.__context__, "full_key", None) or "", read)
        known = hydras.not_installed(str(error)) or texts.composing_problem(error, read)
        raise ConfigError(known or f"{one_line(error)}{where}") from error
    except RecursionError:
        chosen = " ".join(overrides) or line.config_name
        raise ConfigError(f"the defaults of {chosen} must come to an end, got files that name each other") from None
    if found := list(texts.yaml_problems(made, read)):
        raise ConfigError(found)
    return config


def _files(line: CommandLine, groups: Sequence[Override], choice: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield every file of a choice of groups, and the part of the settings that it makes."""
    for name, package in files(line.config_path, line.config_name, line.extra_dirs, _chosen(line, groups, choice)):
        found = [path for folder in line.folders if (path := folder / f"{name}.yaml").is_file()]
        yield from ((path, package) for path in found[:1])


def _chosen(line: CommandLine, groups: Sequence[Override], choice: Sequence[str]) -> list[str]:
    """Return the overrides that choose the groups' files, and where they are looked for."""
    chosen = [_choice(group.key_or_group, value) for group, value in zip(groups, choice, strict=True)]
    return chosen + [text for text in line.overrides if key_of(text) == SEARCH_PATH][-1:]


def _choice(group: str, name: str) -> str:
    """Return the override that chooses a group's file; a group without one is deleted: Hydra has no null for groups."""
    # In quotes, or a file that is called nan.yaml or 1.yaml would be taken for a number.
    return f"~{group}" if name == "null" else f'{group}="{name}"'


def _for_hydra(override: Override, config: DictConfig) -> str:
    """Return the override as Hydra wants it: a plus for new keys of free-form sections only."""
    text, key = override.input_line or "", override.key_or_group
    if is_hydra(key):
        return text
    if key in schema.GROUPS and choices_of(override) == ["null"]:
        return _choice(key, "null")
    bare = text.lstrip("+")
    return f"++{bare}" if is_free_form(key, config) else bare
