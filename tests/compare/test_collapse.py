"""A seed that learned nothing is a result: it counts, it is told, and it keeps few seeds from deciding."""

from pathlib import Path

import pytest
from support.made_records import leave, outputs, table_of

from molex_cli import records
from molex_cli.cli import main
from molex_cli.compare.collapse import ENOUGH_SEEDS
from molex_cli.statistics.collapse import most_collapses


def scored(metric, value, constant):
    """Return a record's scores of one metric, and of a constant prediction."""
    one = {"step": 9, "epoch": 1.0, "loss": 0.5, "scores": {metric: value}}
    return {"metric": metric, "last": one, "best": one, "selection": "", "constant": constant}


def test_a_seed_that_diverged_has_no_score_and_every_format_says_so(capsys):
    outputs(lora=0.6, mola=0.8)
    error = {"type": "TrainingError", "message": "loss must be finite, got nan at step 3"}
    leave(Path("outputs/mola-s3"), "mola", 3, status="failed", error=error)
    for name in ("table", "md", "json", "html", "latex"):
        assert main(["compare", "outputs", "--format", name]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "training diverged in mola-s3; without these runs their arms look better than they are" in shown


def test_an_undefined_score_counts_as_a_constant_prediction():
    for seed, value in enumerate((0.5, 0.4, None)):
        leave(Path(f"outputs/s{seed}"), "lora", seed, task="cola", scores=scored("matthews", value, {}))
    cell = table_of(Path("outputs")).cells["lora", "cola"]
    assert cell.by_seed == {0: 0.5, 1: 0.4, 2: 0.0}
    assert cell.collapsed == [2]
    assert cell.mean == pytest.approx(0.3)
    assert (cell.median, cell.trained_mean) == (0.4, pytest.approx(0.45))


@pytest.mark.parametrize(
    ("metric", "value", "constant", "expected"),
    [
        ("accuracy", 0.6, {"accuracy": 0.6}, True),
        ("accuracy", 0.61, {"accuracy": 0.6}, False),
        ("f1", 0.7, {"f1": 0.8}, False),  # all rows positive has a high F1; a lower one may have learned much
        ("f1", 0.8, {"f1": 0.8}, True),
        ("f1", 0.0, {"f1": 0.8}, True),
        ("matthews", 0.0, {}, True),
        ("matthews", -0.1, {}, True),
        ("spearman", -0.2, {}, True),
        ("pearson", 0.1, {}, False),
        ("matthews", None, {}, True),
        ("pearson", None, {}, True),
    ],
)
@pytest.mark.parametrize("which", ["last", "best"])
def test_a_seed_collapsed_if_a_constant_does_as_well(metric, value, constant, expected, which):
    leave(Path("outputs/a"), scores=scored(metric, value, constant))
    assert bool(table_of(Path("outputs"), which=which).cells["lora", "rte"].collapsed) is expected


@pytest.mark.parametrize(("metric", "constant"), [("accuracy", {}), ("bleu", {})])
def test_where_records_do_not_tell_nothing_is_said_of_collapses(capsys, metric, constant):
    for seed in range(3):
        leave(Path(f"outputs/a{seed}"), "lora", seed, scores=scored(metric, 0.4 + 0.001 * seed, constant))
        leave(Path(f"outputs/b{seed}"), "mola", seed, scores=scored(metric, 0.8 + 0.002 * seed, constant))
    cell = table_of(Path("outputs")).cells["lora", "rte"]
    assert cell.difference.is_significant(0.05)
    assert not cell.tells_collapses
    assert cell.difference.caveat == ""
    assert main(["compare", "outputs", "--cols", "task"]) == 0
    shown = capsys.readouterr().out
    assert "0/3" not in shown
    assert "?: the records do not tell" in shown


def test_constant_predictions_at_the_end_leave_an_earlier_best_evaluation_alone():
    made = leave(Path("outputs/a"), degenerate=["all predictions are the same"])
    assert [table_of(Path("outputs"), which=which).cells["lora", "rte"].collapsed for which in WHICH] == [[0], [0]]
    made.scores["best"] = {**made.scores["best"], "step": 5}
    records.write_record(Path("outputs/a"), made)
    assert [table_of(Path("outputs"), which=which).cells["lora", "rte"].collapsed for which in WHICH] == [[0], []]


@pytest.mark.parametrize("why", ["all predictions are the same in rte", "accuracy is undefined in rte"])
def test_a_collapse_in_any_stage_counts(why):
    leave(Path("outputs/a"), degenerate=[why])
    assert table_of(Path("outputs")).cells["lora", "rte"].collapsed == [0]


def test_collapses_are_counted_by_column(capsys):
    outputs(lora=0.6)
    for seed in range(3):
        leave(Path(f"outputs/c{seed}"), "lora", seed, task="cola", scores=scored("matthews", None if seed else 0.5, {}))
    assert main(["compare", "outputs", "--cols", "task"]) == 0
    shown = capsys.readouterr().out
    assert "2/3, 0/3, worst ≤ 98 %" in shown or "0/3, 2/3, worst ≤ 98 %" in shown


def test_what_is_undecided_is_not_called_close(capsys):
    outputs(lora=0.6, mola=0.601)
    leave(Path("outputs/x"), "molex", 0, 0.9, degenerate=["all predictions are the same"])
    cells = table_of(Path("outputs")).column("rte")
    assert [cell.difference.undecided for cell in cells.values() if cell.difference] == ["undecided, collapses"] * 2
    assert not any(cell.is_close for cell in cells.values())
    assert main(["compare", "outputs", "--cols", "task", "--format", "csv"]) == 0
    assert capsys.readouterr().out.count("undecided, collapses") >= 1


WHICH = ("last", "best")


@pytest.mark.parametrize(("seeds", "called"), [(3, False), (ENOUGH_SEEDS, True)])
def test_few_seeds_decide_nothing_in_a_column_where_an_arm_collapsed(capsys, seeds, called):
    outputs(seeds=range(seeds), lora=0.6, mola=0.9)
    collapsed = leave(Path("outputs/x"), "molex", 0, 0.9)
    collapsed.degenerate = ["all predictions are the same"]
    records.write_record(Path("outputs/x"), collapsed)
    found = table_of(Path("outputs")).cells["lora", "rte"]
    assert found.difference.adjusted < 0.05
    assert found.difference.is_significant(0.05) is called
    assert not found.is_close
    assert found.difference.variance == "pair"
    Path("claims.yaml").write_text("- mola > lora on rte\n")
    assert main(["compare", "outputs", "--cols", "task", "--claims", "claims.yaml"]) == 0
    shown = capsys.readouterr().out
    assert ("  mola > lora on rte: undecided, collapses, " in shown) is not called
    assert ("  mola > lora on rte: supported, " in shown) is called


def test_where_no_seed_collapsed_the_verdict_says_what_it_rests_on(capsys):
    outputs(lora=0.6, mola=0.9)
    Path("claims.yaml").write_text("- mola > lora on rte\n")
    assert main(["compare", "outputs", "--cols", "task", "--claims", "claims.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "supported, when it trains: 0 of 3 seeds collapsed, up to 63 % may" in shown
    assert "0/3, ≤ 63 %" in shown


@pytest.mark.parametrize(("seeds", "bound"), [(3, 0.63), (5, 0.45), (10, 0.26)])
def test_the_bound_on_collapses_is_the_exact_binomial_one(seeds, bound):
    assert most_collapses(0, seeds) == pytest.approx(bound, abs=0.005)
    assert (1 - most_collapses(0, seeds)) ** seeds == pytest.approx(0.05)
    assert most_collapses(seeds, seeds) == 1.0


def test_median_and_mean_of_what_trained_stand_beside_the_mean_when_asked_for(capsys):
    for seed, value in enumerate((0.5, 0.4, None)):
        leave(Path(f"outputs/s{seed}"), "lora", seed, task="cola", scores=scored("matthews", value, {}))
    assert (
        main(["compare", "outputs", "--cols", "task", "--show", "median", "--show", "trained", "--format", "md"]) == 0
    )
    head, _, line = (each for each in capsys.readouterr().out.splitlines() if each.startswith("|"))
    cells = dict(
        zip((each.strip() for each in head.split("|")), (each.strip() for each in line.split("|")), strict=True)
    )
    assert cells["cola median"] == "40.00"
    assert cells["cola trained"] == "45.00"
    assert cells["cola matthews % ↑"].startswith("**30.00 ± ")
