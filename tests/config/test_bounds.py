"""Every setting there is with values that no one means: it is taken, or refused in one line; never a traceback."""

import json
import re
from collections.abc import Iterator, Sequence

import pytest
from omegaconf import OmegaConf

from molex_cli.config import command_line, overrides, schema
from molex_cli.config.bounds import unusable
from molex_cli.errors import MolexError
from molex_cli.records import flat

STRANGE = [
    "-1", "0", "1e308", "inf", "nan", "100000000000000000000000", '""', '"' + "x" * 300 + '"', "null", "true",
    "[a,b]", "[[a]]", "{a: b}", '"\ud800"', "'${nope}'", "'${'", "'${oc.env:HOME}'", "'[/b]'",
]  # fmt: skip
CHOICES = {
    "method": ["molex", "mola_triangle", "peft/dora", "bitfit"],
    "task": ["e2e", "builtin/nli", "files"],
    "model": ["tiny_llama", "folder"],
    "hardware": ["pool", "cpu"],
}


def line_of(*given: str) -> command_line.CommandLine:
    return command_line.CommandLine(overrides=["experiment=smoke", *given])


def configs_of(given: str) -> overrides.Configs:
    """Return the settings of a choice of a group, composed once for all that is tried on them."""
    groups, _, _ = overrides._split(overrides._parse(line_of(given))[0], line_of(given))
    return overrides._compose(line_of(given), groups)[0]


def settings_of(configs: overrides.Configs) -> list[str]:
    """Return the full key of each setting, sections too."""
    content = OmegaConf.to_container(next(iter(configs.values())), resolve=False, enum_to_str=True)
    leaves = list(flat(content))
    return sorted({*leaves, *(key.rpartition(".")[0] for key in leaves)} - {""})


def problems_of(given: str, configs: overrides.Configs, setting: str) -> list[str]:
    """Return what `overrides.jobs` says of a setting."""
    parsed, problems = overrides._parse(line_of(given, setting))
    groups, settings, unknown = overrides._split(parsed, line_of(given, setting))
    fitting, misfits = overrides._check(settings, configs)
    kept = {o.key_or_group for o in (*groups, *fitting)}
    _, unresolved = overrides._expand([o for o in parsed if o.key_or_group in kept], configs)
    return [*problems, *unknown, *misfits, *unresolved]


def refusals(given: str, configs: overrides.Configs, settings: Sequence[str]) -> list[str]:
    """Return where a setting was neither taken nor refused in lines that say something."""
    found = []
    for setting in settings:
        try:
            problems = problems_of(given, configs, setting)
        except Exception as error:
            found.append(f"{setting}: {type(error).__name__} {error}")
            continue
        if not all(re.search(r"\w", line) and "\n" not in line for line in problems):
            found.append(f"{setting}: {problems}")
    return found


def every_case() -> Iterator[tuple[str, overrides.Configs, list[str]]]:
    """Yield each choice of a group with its settings that no choice before it had, and every strange value."""
    schema.register()
    known: set[str] = set()
    for group, names in CHOICES.items():
        for name in names:
            configs = configs_of(f"{group}={name}")
            new = [key for key in settings_of(configs) if key not in known]
            known |= set(new)
            yield f"{group}={name}", configs, [f"{key}={value}" for key in new for value in STRANGE]


def test_a_sample_of_all_settings_takes_strange_values_or_refuses_them_in_a_line():
    given, configs, settings = next(every_case())
    assert len(settings) > 1000
    assert refusals(given, configs, settings[:: len(settings) // 40]) == []


@pytest.mark.slow
def test_every_setting_takes_strange_values_or_refuses_them_in_a_line():
    cases = list(every_case())
    assert [each for case in cases for each in refusals(*case)] == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("method.learning_rate=-1", "method.learning_rate must be above 0, got -1"),
        ("train.epochs=1e308", "train.epochs must "),
        ("seed=100000000000000000000000000000000", "seed must be a whole number of at most 63 bits, got one of 107"),
        ("train.max_steps=99999999999999999999999", "train.max_steps must be a whole number of at most 63 bits"),
        ("model.config.num_attention_heads=-1", "model.config.num_attention_heads must be at least 0, got -1"),
        ("model.config.num_hidden_layers=1000000000", "model.config.num_hidden_layers must be at most 1,000, got 1,0"),
        ("train='${oc.env:HOME}'", "train must be "),
        ("method.targets='${oc.env:HOME}'", "method.targets must be "),
        ('task.name="\ud800"', "task.name must be text, got half of a character"),
        ("task.name='${'", "task.name must have a whole ${KEY} or none"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_its_name(setting, said):
    with pytest.raises(MolexError) as error:
        overrides.checked(command_line.CommandLine(overrides=["experiment=smoke", setting]))
    (line,) = str(error.value).splitlines()
    assert line.startswith(said)


def test_the_settings_of_the_presets_are_within_bounds(experiment):
    made = experiment()
    assert list(unusable(made)) == []
    json.dumps(schema.as_data(made))
