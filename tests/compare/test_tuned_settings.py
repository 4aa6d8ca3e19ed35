"""Settings are chosen on rows and seeds of their own, and what is reported chooses nothing."""

import csv
import io
import json
from pathlib import Path

import pytest
from support.made_records import leave, made, outputs

from molex_cli import records
from molex_cli.cli import main
from molex_cli.compare import formats
from molex_cli.compare.confounds import confounds
from molex_cli.compare.loading import Run, has_diverged, load
from molex_cli.compare.table import compare
from molex_cli.compare.tuning import Tuning, chosen
from molex_cli.errors import ConfigError
from molex_cli.metrics.base import METRICS, Metric

RATE = "train.learning_rate"
DIVERGED = {"type": "TrainingError", "message": "loss must be finite, got nan at step 3", "traceback": ""}
TUNE = ("--cols", "task", "--tune", RATE, "--tuning-seeds", "1000,1001")


def trial(seed, selection, *, metric="accuracy", error=None, method="lora", rate=1e-3, share=0.6, task="rte", **train):
    """Return the run of a seed with a score on the rows that choose, or one that failed with an error."""
    name = f"{method}-{task}-{rate}-{train}"
    record = made(
        method, seed, share, task=task, metric=metric, variant=name,
        settings={"train": {"epochs": 1.0, "selection": 0.1, "learning_rate": rate, **train}},
    )  # fmt: skip
    record.training["learning_rate"] = rate
    score = {**record.scores["last"], "selection": {metric: selection}}
    record.scores |= {"last": score, "best": score}
    if error:
        record.scores, record.status, record.error = {}, "failed", error
    return Run(Path(f"outputs/{name}-s{seed}"), record)


def left(runs):
    """Write the records of runs."""
    for run in runs:
        run.folder.mkdir(parents=True)
        records.write_record(run.folder, run.record)


def arm(method, selection, *, reported=(0, 1, 2), shares=0.6, **settings):
    """Leave the tuning runs of an arm, given the selection score of each rate, and its reported runs at every rate."""
    for number, (rate, score) in enumerate(selection.items()):
        share = shares[number] if isinstance(shares, list) else shares
        left(trial(seed, score, method=method, rate=rate, share=share, **settings) for seed in (1000, 1001))
        left(trial(seed, 0.5, method=method, rate=rate, share=share, **settings) for seed in reported)


def by_values(**scores):
    """Return the trials of two seeds for each value, named r1, r2, ..."""
    return {
        (float(name[1:]),): [trial(1000 + i, score) for i, score in enumerate(each)] for name, each in scores.items()
    }


def test_the_value_with_the_best_mean_selection_score_is_chosen():
    found = chosen(by_values(r3=(0.6, 0.7), r1=(0.9, 0.3), r2=(0.8, 0.6)), [RATE], [1000, 1001])
    assert found.values == {RATE: 2.0}
    assert found.grid == {RATE: [1.0, 2.0, 3.0]}
    assert found.scores == {(1.0,): pytest.approx(0.6), (2.0,): pytest.approx(0.7), (3.0,): pytest.approx(0.65)}
    assert found.trials == 6
    assert found.seeds == (1000, 1001)
    assert found.edges == ()
    assert found.diverged == 0


def test_of_equals_the_first_is_chosen_whatever_their_order():
    assert chosen(by_values(r2=(0.5, 0.7), r1=(0.7, 0.5), r3=(0.6, 0.6)), [RATE], [1000, 1001]).values == {RATE: 1.0}
    assert chosen(by_values(r2=(0.1, 0.3), r1=(0.2, 0.2)), [RATE], [1000, 1001]).values == {RATE: 1.0}


def test_only_the_tuning_seeds_choose():
    runs = by_values(r1=(0.6, 0.6), r2=(0.5, 0.5))
    runs[2.0,].append(trial(0, 1.0))
    assert chosen(runs, [RATE], [1000, 1001]).values == {RATE: 1.0}


def test_an_undefined_score_counts_as_a_constant_prediction():
    runs = {(1.0,): [trial(1000, None, metric="matthews")], (2.0,): [trial(1000, -0.1, metric="matthews")]}
    found = chosen(runs, [RATE], [1000])
    assert found.values == {RATE: 1.0}
    assert found.scores[1.0,] == 0.0


def test_a_trial_that_diverged_is_worse_than_every_other_and_counts():
    runs = by_values(r1=(0.9, 0.9), r2=(0.1, 0.1))
    runs[1.0,][1] = trial(1001, None, error=DIVERGED)
    found = chosen(runs, [RATE], [1000, 1001])
    assert found.values == {RATE: 2.0}
    assert (found.trials, found.diverged) == (4, 1)
    assert found.scores[1.0,] == -float("inf")
    runs[2.0,] = [trial(seed, None, error=DIVERGED) for seed in (1000, 1001)]
    assert chosen(runs, [RATE], [1000, 1001]).values == {RATE: 1.0}  # the one that diverged least
    runs[1.0,][0] = trial(1000, None, error=DIVERGED)
    with pytest.raises(ConfigError, match=r"lora must train at a value of train.learning_rate, got trials .* diverged"):
        chosen(runs, [RATE], [1000, 1001], arm="lora")


def test_a_metric_of_which_low_is_better_is_minimised(monkeypatch):
    metric = Metric(name="loss", function=float, kinds=(), higher_is_better=False, high=float("inf"))
    monkeypatch.setitem(METRICS, "loss", metric)
    runs = {(rate,): [trial(1000, score, metric="loss")] for rate, score in ((1.0, 0.9), (2.0, 0.4), (3.0, 0.8))}
    assert chosen(runs, [RATE], [1000]).values == {RATE: 2.0}
    runs[2.0,] = [trial(1000, None, error=DIVERGED)]
    found = chosen(runs, [RATE], [1000])
    assert found.values == {RATE: 3.0}
    assert found.scores[2.0,] == float("inf")


def test_which_evaluation_is_scored_is_that_which_is_compared():
    run = trial(1000, 0.2)
    run.record.scores["best"] = {**run.record.scores["best"], "selection": {"accuracy": 0.9}}
    runs = {(1.0,): [run], (2.0,): [trial(1000, 0.5)]}
    assert chosen(runs, [RATE], [1000]).values == {RATE: 2.0}
    assert chosen(runs, [RATE], [1000], which="best").values == {RATE: 1.0}


def test_the_edges_are_those_of_numbers_of_which_there_are_several():
    settings = [RATE, "method.rank", "model.dropout", "train.schedule", "method.same_start"]
    runs = {
        (rate, rank, 0.1, schedule, start): [trial(1000, rate + rank + start)]
        for rate in (1.0, 2.0)
        for rank in (4, 8, 16)
        for schedule in ("cosine", "linear")
        for start in (False, True)
    }
    found = chosen(runs, settings, [1000])
    assert found.values == dict(zip(settings, (2.0, 16, 0.1, "cosine", True), strict=True))
    assert found.edges == (RATE, "method.rank")
    runs[2.0, 8, 0.1, "linear", True] = [trial(1000, 99.0)]
    assert chosen(runs, settings, [1000]).edges == (RATE,)
    runs[None, 8, 0.1, "linear", True] = [trial(1000, 0.0)]  # what the method recommends
    found = chosen(runs, settings, [1000])
    assert found.grid[RATE] == [1.0, 2.0, None]
    assert found.edges == (RATE,)


def test_what_cannot_choose_is_refused():
    runs = by_values(r1=(0.6, 0.6), r2=(0.5,))
    with pytest.raises(
        ConfigError, match=r"lora must have every tuning seed at every value, got no run of 1001 at .*=2"
    ):
        chosen(runs, [RATE], [1000, 1001], arm="lora")
    runs[2.0,].append(trial(1001, None, error={**DIVERGED, "type": "OutOfMemoryError", "message": "no room"}))
    with pytest.raises(ConfigError, match=r"got no run of 1001 at train.learning_rate=2"):
        chosen(runs, [RATE], [1000, 1001])
    without = {(1.0,): [Run(Path("outputs/run"), made(seed=1000))]}
    with pytest.raises(ConfigError, match=r"must have been trained with train.selection, got outputs/run without"):
        chosen(without, [RATE], [1000])


def test_the_table_holds_the_other_seeds_at_the_chosen_value(capsys):
    arm("lora", {1e-3: 0.6, 2e-3: 0.8, 3e-3: 0.7}, shares=[0.9, 0.4, 0.5])
    arm("mola", {1e-3: 0.6, 2e-3: 0.5}, shares=[0.7, 0.8])
    table = compare(load([Path("outputs")]).runs, ["method"], ["task"], "last", tuning=Tuning([RATE], [1000, 1001]))
    assert table.rows == ["lora", "mola"]
    cells = table.column("rte")
    assert {row: cell.tuned.values[RATE] for row, cell in cells.items()} == {"lora": 2e-3, "mola": 1e-3}
    assert all(sorted(cell.by_seed) == [0, 1, 2] for cell in cells.values())
    assert cells["lora"].mean < 0.5
    assert 0.6 < cells["mola"].mean < 0.77
    assert main(["compare", "outputs", *TUNE]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    head, first, second = (line for line in shown.out.split("\n\n")[1].splitlines() if "columns" not in line)
    assert head.split().index("trials") == head.split().index("collapsed") + 2
    assert "0.002" in first
    assert "6" in first.split()
    assert "4" in second.split()
    assert "seeds 1000, 1001" in shown.out
    assert "MOLA in rte: train.learning_rate=0.001 is the lowest of 0.001, 0.002" in shown.out
    assert "LORA in rte: train.learning_rate" not in shown.out  # between others
    assert "runs of LORA in rte at other values, which count for nothing: 6" in shown.out


def test_each_column_has_its_own_choice(capsys):
    arm("lora", {1e-3: 0.6, 2e-3: 0.8})
    arm("lora", {1e-3: 0.6, 2e-3: 0.5}, task="cola")
    assert main(["compare", "outputs", *TUNE]) == 0
    assert "0.001, 0.002" in capsys.readouterr().out  # columns are sorted as the runs are


def test_arms_that_differ_in_another_setting_are_tuned_apart_and_named_after_that_alone():
    arm("lora", {1e-3: 0.6, 2e-3: 0.8}, epochs=1.0)
    arm("lora", {1e-3: 0.6, 2e-3: 0.5}, epochs=2.0)
    table = compare(load([Path("outputs")]).runs, ["method"], ["task"], "last", tuning=Tuning([RATE], [1000, 1001]))
    assert {row: table.cells[row, "rte"].tuned.values[RATE] for row in table.rows} == {
        "lora (train.epochs=1.0)": 2e-3,
        "lora (train.epochs=2.0)": 1e-3,
    }


@pytest.mark.parametrize("name", formats.names())
def test_every_format_shows_value_trials_and_edges(name, capsys):
    arm("lora", {1e-3: 0.6, 2e-3: 0.8})
    arm("mola", {1e-3: 0.6, 2e-3: 0.9})
    assert main(["compare", "outputs", *TUNE, "--format", name]) == 0
    shown = capsys.readouterr().out
    if name == "csv":
        (line, _) = csv.DictReader(io.StringIO(shown))
        assert line["tuned"] == "train.learning_rate=0.002"
        assert line["trials"] == "4"
        assert line["at_the_edge"] == RATE
        return
    assert "trials" in shown
    assert "0.002" in shown
    assert "is the highest of 0.001, 0.002" in shown
    if name == "json":
        tuned = json.loads(shown)["cells"][0]["tuned"]
        assert tuned["values"] == {RATE: 0.002}
        assert tuned["scores"] == [{"values": [0.001], "score": 0.6}, {"values": [0.002], "score": 0.8}]


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("DivergedError", "gradient norm must be finite, got inf at step 3", True),
        ("TrainingError", "loss must be finite, got nan at step 3", True),  # of before
        ("TrainingError", "memory must be enough for a step", False),
        ("TrainingError", "routers collapsed onto few experts", False),
        ("MethodError", "loss must be finite", False),
    ],
)
def test_a_run_diverged_if_its_loss_or_gradient_was_not_finite(kind, message, expected):
    assert has_diverged(trial(1000, None, error={"type": kind, "message": message})) is expected


def test_a_trial_that_diverged_is_counted_from_its_record(capsys):
    arm("lora", {1e-3: 0.6, 2e-3: 0.8})
    left(trial(seed, None, rate=5e-2, error=DIVERGED) for seed in (1000, 1001))
    found = load([Path("outputs")])
    assert len(found.diverged) == 2
    assert main(["compare", "outputs", *TUNE]) == 0
    shown = capsys.readouterr()
    assert "is failed: loss must be finite" in shown.err
    assert "2 of the 6 trials of LORA in rte diverged" in shown.out
    assert "is the highest" not in shown.out
    left([trial(1000, 0.9, rate=6e-2)])
    leave(Path("outputs/again"), "lora", 1000, variant=trial(1000, 0.9, rate=6e-2).record.variant, status="failed",
          settings=trial(1000, 0.9, rate=6e-2).record.settings, error=DIVERGED)  # fmt: skip
    assert len(load([Path("outputs")]).diverged) == 2  # one that was run again has a score


def test_a_diverged_run_of_another_arm_or_seed_changes_nothing(capsys):
    arm("lora", {1e-3: 0.6, 2e-3: 0.8})
    left([trial(7, None, error=DIVERGED, epochs=9.0), trial(1000, None, error=DIVERGED, task="cola")])
    assert main(["compare", "outputs", *TUNE]) == 0
    shown = capsys.readouterr().out
    assert "trials of lora" not in shown.lower()
    assert "training diverged in lora" in shown  # of a seed that tunes nothing


def test_trials_that_differ_are_a_confound_and_tuned_values_of_as_many_are_none():
    def listed():
        found = load([Path("outputs")])
        tuning = Tuning([RATE], [1000, 1001], found.diverged)
        table = compare(found.runs, ["method"], ["task"], "last", tuning=tuning)
        return [note.text for note in confounds(table)]

    arm("lora", {1e-3: 0.6, 2e-3: 0.8})
    arm("mola", {1e-3: 0.6, 2e-3: 0.5})
    assert listed() == []
    arm("bitfit", {3e-3: 0.6, 4e-3: 0.8})
    assert listed() == ["values of train.learning_rate that were tried in rte: 0.001, 0.002 (LORA, MOLA); "
                        "0.003, 0.004 (BITFIT)"]  # fmt: skip
    left(trial(seed, None, rate=5e-3, method="bitfit", error=DIVERGED) for seed in (1000, 1001))
    lines = listed()
    assert "trials of tuning in rte: 4 (LORA, MOLA); 6 (BITFIT)" in lines
    assert any(line.startswith("train.learning_rate differs") for line in lines)
    assert any(line.startswith("learning rates in rte") for line in lines)


def refused(*arguments):
    assert main(["compare", "outputs", *arguments]) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--tune", RATE), "--tune must go with --tuning-seeds, got --tune alone"),
        (("--tuning-seeds", "1000"), "--tune must go with --tuning-seeds, got --tuning-seeds alone"),
        (("--tune", "", "--tuning-seeds", "1000"), "--tune must name a setting at least, got none"),
        (("--tune", RATE, "--tuning-seeds", "a,1"), "--tuning-seeds must be whole numbers, such as 1000,1001, got a,1"),
        (("--tune", RATE, "--tuning-seeds", ","), "--tuning-seeds must be whole numbers, such as 1000,1001, got ,"),
        (
            ("--tune", "train.lerning_rate", "--tuning-seeds", "1000"),
            "--tune must name settings of the runs, got train.lerning_rate; did you mean train.learning_rate?",
        ),
        (
            ("--tune", RATE, "--rows", f"method,{RATE}", "--tuning-seeds", "1000"),
            "--tune must name other settings than --rows and --cols, got train.learning_rate in both",
        ),
        (("--tune", "method", "--tuning-seeds", "1000"), "got method in both"),
        (
            ("--tune", RATE, "--tuning-seeds", "1000,1009"),
            "--tuning-seeds must be seeds of the runs, got 1009, which none has; they have 0, 1, 2, 1000, 1001",
        ),
        (
            ("--tune", RATE, "--tuning-seeds", "0,1,2,1000,1001"),
            "lora in rte minilm must have runs of seeds that tuned nothing at train.learning_rate=0.002, got none",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_tuned_is_one_line(arguments, says, capsys):
    arm("lora", {1e-3: 0.5, 2e-3: 0.8})
    refused(*arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_runs_that_cannot_be_tuned_are_one_line(capsys):
    outputs(lora=0.6, seeds=(0, 1000, 1001))
    for run in load([Path("outputs")]).runs:
        run.record.settings["train"]["learning_rate"] = 1e-3
        records.write_record(run.folder, run.record)
    refused(*TUNE)
    (line,) = capsys.readouterr().err.splitlines()
    assert "must have been trained with train.selection, got outputs/lora-s1000 without" in line
    arm("mola", {1e-3: 0.6, 2e-3: 0.8}, reported=())
    left(trial(seed, 0.5, method="mola", rate=1e-3) for seed in (0, 1))
    assert main(["compare", *map(str, Path("outputs").glob("mola*")), *TUNE]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mola in rte must have runs of seeds that tuned nothing at train.learning_rate=0.002, got none" in line
    arm("bitfit", {1e-3: 0.6})
    left(trial(seed, 0.5, method="head") for seed in (0, 1))
    runs = [*Path("outputs").glob("bitfit*"), *Path("outputs").glob("head*")]
    assert main(["compare", *map(str, runs), *TUNE]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "head in rte must have runs of the tuning seeds 1000, 1001, got none" in line


def test_several_values_of_one_method_beside_one_of_another_are_told():
    left(trial(seed, 0.5, method="lora") for seed in (0, 1, 2))
    left(trial(seed, 0.5, method="mola", rate=rate) for seed in (0, 1, 2) for rate in (1e-3, 2e-3, 3e-3))
    table = compare(load([Path("outputs")]).runs, ["method", RATE], ["task"], "last")
    lines = [note.text for note in confounds(table)]
    assert (
        "rows of a method in rte: 1 (LORA); 3 (MOLA): the best of several is better by chance, "
        "and --tune chooses on rows and seeds that report nothing"
    ) in lines
