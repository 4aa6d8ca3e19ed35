"""The command line against the settings' schema: every mistake named at once, before Hydra runs.

Hydra stops at the first mistake, lets `+train.foo=1` pass and lists no choices of nested groups. Here the overrides
are parsed and split into choices of files and single settings; the files of conf/ are composed, each setting is
checked on the typed result, and sweeps are expanded into jobs. Every step returns its result and the problems it found.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from itertools import product

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from molex_cli.config import schema, texts
from molex_cli.config.command_line import CommandLine
from molex_cli.config.hydra_internals import values_made_text
from molex_cli.config.parsing import as_text, choices_of, is_hydra, one_line, parsed, values_of
from molex_cli.config.problems import group_problems, is_free_form, value_problems
from molex_cli.config.run_id import Job
from molex_cli.errors import ConfigError

Configs = Mapping[tuple[str, ...], DictConfig]
"""The composed settings of each combination of the groups' files."""


def checked(line: CommandLine) -> schema.Experiment:
    """Return the (first) experiment of the command line; raise with every problem."""
    found, _ = jobs(line)
    return found[0].experiment


def jobs(line: CommandLine) -> tuple[list[Job], CommandLine]:
    """Return every job of the command line, the last sweep going fastest, and the line as Hydra takes it.

    Raises ConfigError with every problem.
    """
    schema.register()
    given, unreadable = _parse(line)
    groups, settings, unknown = _split(given, line)
    configs, uncomposed = _compose(line, groups)
    fitting, misfits = _check(settings, configs)
    kept = {o.key_or_group for o in (*groups, *fitting)}
    found, unresolved = _expand([o for o in given if o.key_or_group in kept], configs)
    if problems := [*unreadable, *unknown, *uncomposed, *misfits, *unresolved]:
        raise ConfigError(dict.fromkeys(problems))
    first = next(iter(configs.values()))
    return found, dataclasses.replace(line, overrides=[_for_hydra(o, first) for o in given])


def hydra_settings(line: CommandLine, *, is_checked: bool = True) -> DictConfig:
    """Return Hydra's own part of the settings, with its launcher and sweeper, as the (first) job's groups make it."""
    given, _ = parsed(line.overrides)
    groups = [o for o in given if o.key_or_group in schema.GROUPS]
    # Hydra's settings may name ours, as the size of a pool does; before ours are checked only its own count.
    fixed = [o for o in given if o.key_or_group not in schema.GROUPS and not o.is_sweep_override()]
    own = [o.input_line or "" for o in fixed if is_checked or is_hydra(o.key_or_group)]
    return _composed(line, groups, [choices_of(group)[0] for group in groups], own)


def _parse(line: CommandLine) -> tuple[list[Override], list[str]]:
    """Return the overrides, the last one of each key; sweeps only where the line asks for several runs."""
    given, problems = parsed(line.overrides)
    if line.multirun:
        presets, unreadable = _presets(given, line)
        given, problems = [*presets, *given], [*problems, *unreadable]
    else:
        sweeps = [o for o in given if o.is_sweep_override()]
        given = [o for o in given if not o.is_sweep_override()]
        for override in sweeps:
            _, _, value = (override.input_line or "").partition("=")
            problems.append(f"{override.key_or_group} must be one value, got {value}; add -m to sweep over several")
    return list({o.key_or_group: o for o in given}.values()), problems


def _presets(given: Sequence[Override], line: CommandLine) -> tuple[list[Override], list[str]]:
    """Return the sweeps that an experiment brings as hydra.sweeper.params, less those of the command line."""
    if any(o.key_or_group in schema.GROUPS and group_problems(o, line) for o in given):
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


def _compose(line: CommandLine, groups: Sequence[Override]) -> tuple[Configs, list[str]]:
    """Return the settings of each combination of the groups' files."""
    configs, problems = {}, []
    for choice in product(*(choices_of(group) for group in groups)):
        try:
            configs[choice] = _composed(line, groups, choice)
        except ConfigError as error:
            problems += error.problems
    return configs, problems


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
        for override, value in chosen:
            if override.key_or_group not in schema.GROUPS:
                OmegaConf.update(trial, override.key_or_group, value, force_add=True)
        differs = tuple(f"{o.key_or_group}={as_text(value)}" for o, value in chosen if o.is_sweep_override())
        try:
            found.append(Job(differs, schema.resolve(trial)))
        except ConfigError as error:
            problems += error.problems
        except OmegaConfBaseException as error:
            problems.append(one_line(error))
    return found, problems


def _composed(
    line: CommandLine, groups: Sequence[Override], choice: Sequence[str], hydra: Sequence[str] | None = None
) -> DictConfig:
    """Return the settings of a choice of groups; with Hydra's own, changed as given, if any are given."""
    overrides = [_choice(group.key_or_group, value) for group, value in zip(groups, choice, strict=True)]
    overrides += hydra or []
    if line.extra_dirs:
        overrides.append(f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in line.extra_dirs)}]")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(line.config_path), version_base="1.3"), values_made_text() as made:
            config = compose(line.config_name, overrides=overrides, return_hydra_config=hydra is not None)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(texts.composing_problem(error, line.folders) or one_line(error)) from error
    if found := list(texts.yaml_problems(made, line.folders)):
        raise ConfigError(found)
    return config


def _choice(group: str, name: str) -> str:
    """Return the override that chooses a group's file; no file is chosen by ~, as Hydra takes no null for a group."""
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
