"""The file of a study: what it may say, and one line on each thing that it may not."""

from pathlib import Path

import pytest

from molex_cli.cli import main
from molex_cli.errors import ConfigError
from molex_cli.study import definition

TWO = "arms: {one: [method=lora], two: [method=mola_inverted]}\n"


def study(content):
    """Return what a file says."""
    Path("study.yaml").write_text(content)
    return definition.read(Path("study.yaml"))


def test_without_claims_all_pairs_are_compared():
    found = study("arms: {a: [], b: [], c: []}\n")
    assert [str(claim) for claim in found.contests] == ["a and b", "a and c", "b and c"]
    assert (found.seeds.first, found.seeds.most, found.alpha, found.which) == (3, 12, 0.05, "last")


def test_claims_have_a_direction():
    (claim,) = study(TWO + "claims: [two > one]").contests
    assert (claim.one, claim.other, claim.is_directed) == ("two", "one", True)


def test_a_grid_is_every_choice_of_values_on_seeds_that_no_reported_run_has():
    tune = study(TWO + "tune: {train.learning_rate: [5e-4, 1e-3], train.weight_decay: [0, 0.1], seeds: 3}").tuning
    assert [tune.overrides(values) for values in tune.combinations()] == [
        ["train.learning_rate=0.0005", "train.weight_decay=0"],
        ["train.learning_rate=0.0005", "train.weight_decay=0.1"],
        ["train.learning_rate=0.001", "train.weight_decay=0"],
        ["train.learning_rate=0.001", "train.weight_decay=0.1"],
    ]
    assert len(tune.each_seed) == 3
    assert min(tune.each_seed) >= definition.MOST_SEEDS


def test_the_digest_is_that_of_what_is_planned_not_of_its_wording():
    arms = {"one": "a", "two": "b"}
    first = study(TWO + "alpha: 0.05").digest(arms)
    assert study("# planned in May\n" + TWO + "alpha:   5e-2\n").digest(arms) == first
    assert study(TWO + "alpha: 0.1").digest(arms) != first
    assert study(TWO.replace("method=lora", "method=bitfit")).digest(arms) != first
    assert study(TWO).digest(arms | {"two": "c"}) != first  # as where a file of one's own was edited


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("arms: {one: [method=lora]}", "arms must be two at least"),
        ("claims: []", "required field `arms`"),
        (TWO + "claims: []", "claims must have one at least"),
        (TWO + "claims: [one > three]", "got three in one > three; choose from one, two"),
        (TWO + "claims: [one > one]", "claims must be on two arms"),
        (TWO + "claims: [one < two]", "claims must read ARM > ARM, got one < two"),
        (TWO + "claims: [one > two, two > one]", "claims must have each pair of arms once"),
        (TWO + "seeds: {first: 2}", "seeds.first must be at least 3, got 2"),
        (TWO + "seeds: {first: 6, most: 5}", "seeds.most must be at least seeds.first, got 5 and 6"),
        (TWO + "seeds: {most: 100000}", "seeds.most must be at most 100"),
        (TWO + "seeds: {start: -1}", "seeds.start must be at least 0"),
        (
            TWO + "seeds: {start: 995}\ntune: {train.weight_decay: [0, 0.1]}",
            "seeds.start must leave the seeds from 1000 on to tuning",
        ),
        (TWO + "seeds: {fist: 3}", "seeds has no fist; did you mean first?"),
        (TWO + "tune: {}", "tune must name a setting"),
        (TWO + "tune: {seeds: 2}", "tune must name a setting"),
        (
            TWO + "tune: {train.learning_rate: []}",
            "tune.train.learning_rate must be a list of values, got an empty one",
        ),
        (TWO + "tune: {train.learning_rate: 1e-3}", "tune.train.learning_rate must be a list of values, got 0.001"),
        (TWO + "tune: {train.learning_rate: [1e-3, 0.001]}", "tune.train.learning_rate must have each value once"),
        (TWO + "tune: {train.learning_rate: [1e-3], seeds: 0}", "tune.seeds must be a number of seeds"),
        (TWO + "tune: {train.learning_rate: [1e-3], seeds: [1]}", "tune.seeds must be a number of seeds"),
        ("arms: {a: [], b: [], c: []}\nclaims: [a > c]", "claims must name every arm, got none on b"),
        (TWO + "match: {to: three}", "match.to must be an arm, got three"),
        (TWO + "match: {to: one, by: parms}", "match.by"),
        (TWO + "match: {to: one}\ntune: {method.rank: [2, 4]}", "tune must leave alone what match solves"),
        (TWO + "alpha: 1", "alpha must be between 3e-06 and 1"),
        (TWO + "base: [seed=3]", "base must leave the seed to the study"),
        ("arms: {one: [method=lora, seed=1], two: []}", "arms.one must leave the seed to the study"),
        (TWO + "arms: {}", "must have each key once"),
        (TWO + "budget: 3", "a study has no budget"),
        ("arms: [method=lora]", "arms must be"),
        ("arms: {one: method=lora, two: []}", "arms[...] must be a list, got text"),
        (TWO + "claims: one > two", "claims must be a list, got text"),
        ("arms: {1: [], two: []}", "arms must be text, got a whole number"),
        ("arms: {'': [], two: []}", "arms must have names without >, got an empty one"),
        ("arms: {'a > b': [], two: []}", "arms must have names without >, got a > b"),
        (TWO + "alpha: 1e-7", "alpha must be between"),
        (TWO + "tune: {seed: [1, 2]}", "tune must leave alone on what and where runs are scored, got seed"),
        ("- arms", "must begin settings"),
        ("", "required field `arms`"),
        ("arms: {", "must be YAML"),
    ],
)
def test_a_file_that_plans_nothing_ends_in_one_line(content, told):
    with pytest.raises(ConfigError) as raised:
        study(content)
    (line,) = raised.value.problems
    assert told in line
    assert "study.yaml" in line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (TWO.replace("lora", "lor"), "arm one: method must be one of the files in conf/method, got lor"),
        (TWO + "base: [train.foo=1]", "study.yaml: train.foo is no setting"),
        (TWO + "base: ['train.epochs=1,2']", "train.epochs must be one value"),
        (
            TWO + "tune: {train.learning_rate: [1e-3, 2e-3]}",
            "train.selection must set rows apart by which tune chooses",
        ),
        (TWO + "tune: {train.foo: [1, 2]}", "train.foo is no setting"),
        (
            TWO + "base: [train.selection=0.2]\ntune: {train.weight_decay: [-1]}",
            "train.weight_decay must be at least 0",
        ),
        (
            "arms: {one: [method=lora, method.rank=4, method.alpha=8], two: [method=lora]}\n"
            "match: {to: one, within: 0.9}",
            "arms must differ, got the same settings for one and two once they are matched and tuned",
        ),
        (
            "arms: {one: [method=lora], two: [method=lora, train.learning_rate=1e-4]}\nbase: [train.selection=0.2]\n"
            "tune: {train.learning_rate: [1e-3]}",
            "arms must differ, got the same settings for one and two once they are matched and tuned",
        ),
        (
            TWO + "base: [train.selection=0.2]\nmatch: {to: two, solve: rank, within: 0.9}\n"
            "tune: {method.targets: [[all-linear], [query]]}",
            "tune must leave the parameters alone to which arms are matched",
        ),
        (TWO + "which: best", "train.selection must set rows apart by which which: best chooses"),
        ("arms: {one: [method=lora], two: [method=lora]}", "arms must differ, got the same settings for one and two"),
        ("arms: {one: [task=builtin/nli], two: [task=builtin/nli, 'task.labels=[a, b]']}", "arms must have one task"),
        (TWO + "base: [train.selection=5000]", "train.selection must leave rows to train on"),
        (TWO + "base: [resume=never]", "resume must be missing or failed in a study"),
        (
            "arms: {one: [method=lora], two: [method=bitfit]}\nmatch: {to: one}",
            "match must be met by every arm, got two",
        ),
        (
            "arms: {one: [method=lora, method.rank=1], two: [method=mola_inverted]}\nmatch: {to: one}",
            "match must be met within 10%, got two: method.rank=1 method.alpha=2  nearest possible:",
        ),
    ],
)
def test_arms_that_cannot_be_compared_end_in_one_line_before_anything_runs(content, told, capsys):
    if "base:" not in content:
        content += "\nbase: []"
    content = content.replace("base: [", "base: [model=tiny_bert, train.max_rows=64, ")
    Path("study.yaml").write_text(content)
    assert main(["study", "study.yaml", "output_dir=out", "log.wandb=disabled"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert told in lines[0]
    assert all(line.startswith("molex: study.yaml: ") for line in lines)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("seed=3", "seed must be left to the study"),
        ("train.epochs=1", "settings that make other runs must be in the study's file, got train.epochs=1"),
        ("train.epochs=3", "got train.epochs=3"),  # even where that is what they have
        ("experiment=smoke", "got experiment=smoke"),
        ("hydra/sweeper=optuna", "hydra/sweeper must be basic in a study"),
    ],
)
def test_the_command_line_says_where_a_study_runs_not_what_it_compares(given, told, capsys):
    Path("study.yaml").write_text(TWO + "base: [model=tiny_bert, train.max_rows=64]")
    assert main(["study", "study.yaml", "log.wandb=disabled", given]) == 2
    assert told in capsys.readouterr().err


def test_a_plan_counts_runs_and_residues_and_starts_nothing(capsys):
    Path("study.yaml").write_text(
        TWO
        + """\
base: [model=tiny_bert, train.max_rows=64, train.selection=0.2]
match: {to: two, within: 0.9}
tune: {train.learning_rate: [1e-3, 2e-3, 4e-3], seeds: 2}
seeds: {first: 3, most: 5}
"""
    )
    assert main(["study", "study.yaml", "--plan"]) == 0
    matched, counted = capsys.readouterr().out.splitlines()
    assert matched.startswith("matched one: method.rank=")
    assert "nearest possible: " in matched
    assert "of two)" in matched
    assert counted == "2 arms, 1 claim: 12 runs to tune, then 6 to 10 runs"
    assert not Path("outputs").exists()
