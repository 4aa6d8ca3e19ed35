"""Arms are compared on the seeds and examples that both have, and only significant differences are called so."""

import math
from pathlib import Path

import numpy as np
import pytest
from support.made_records import leave, outputs, table_of

from molex_cli import records
from molex_cli.cli import main
from molex_cli.compare.judging import judge
from molex_cli.compare.table import Cell, Comparison
from molex_cli.metrics.base import METRICS


def test_scores_are_paired_only_over_the_same_examples():
    outputs(lora=0.6)
    for seed in (0, 1, 2):
        made = leave(Path(f"outputs/mola-s{seed}"), "mola", seed, 0.9)
        made.scores["last"]["correctness"]["ids"] = "others"
        records.write_record(Path(f"outputs/mola-s{seed}"), made)
    found = table_of(Path("outputs")).cells["lora", "rte"].difference
    assert (found.over, found.mcnemar) == ("seeds", None)


def test_scores_that_are_no_means_are_compared_over_examples_too():
    stream = np.random.default_rng(0)
    labels = stream.integers(0, 2, 300)
    for method, skill in (("lora", 0.4), ("mola", 0.8)):
        for seed in range(3):
            folder = Path(f"outputs/{method}-{seed}")
            guesses = np.where(stream.random(300) < skill, labels, stream.integers(0, 2, 300))
            rows = [{"id": i, "label": "ny"[labels[i]], "prediction": "ny"[guesses[i]]} for i in range(300)]
            value = {"matthews": METRICS["matthews"].function(guesses.tolist(), labels.tolist())}
            scores = {"step": 9, "epoch": 1.0, "scores": value, "correctness": records.correctness(rows)}
            settings = {"task": {"name": "cola", "labels": ["n", "y"]}}
            both = {"metric": "matthews", "last": scores, "best": scores, "selection": ""}
            leave(folder, method, seed, task="cola", settings=settings, scores=both)
            records.write_rows(folder / "predictions-last.jsonl", rows)
    table = table_of(Path("outputs"))
    found = table.cells["lora", "cola"].difference
    assert found.over == "seeds and examples"
    assert found.interval.estimate == pytest.approx(table.cells["lora", "cola"].mean - table.cells["mola", "cola"].mean)
    assert found.interval.high < 0


def test_one_seed_has_an_interval_over_its_examples_and_no_p():
    found = table_of(outputs(lora=0.6, mola=0.9, seeds=(0,))).cells["lora", "rte"].difference
    assert found.over == "examples of one seed"
    assert math.isnan(found.interval.p)
    assert found.mcnemar < 0.001
    assert -0.4 < found.interval.low < found.interval.estimate < found.interval.high < -0.2


def test_the_share_of_false_findings_can_be_kept_instead(capsys):
    outputs(lora=0.6, mola=0.9, molex=0.89)
    assert main(["compare", "outputs", "--against", "lora", "--adjust", "bh"]) == 0
    shown = capsys.readouterr().out
    assert "Benjamini-Hochberg over all tests" in shown
    assert "Holm" not in shown


def test_scores_that_are_no_mean_over_examples_are_not_paired_over_them():
    for method, share in (("lora", 0.6), ("mola", 0.9)):
        for seed in (0, 1, 2):
            made = leave(Path(f"outputs/{method}-s{seed}"), method, seed, share)
            made.scores["last"]["scores"]["accuracy"] = 0.5 + share / 10 + seed / 100  # a mean over stages, say
            records.write_record(Path(f"outputs/{method}-s{seed}"), made)
    found = table_of(Path("outputs")).cells["lora", "rte"].difference
    assert found.over == "seeds"
    assert found.interval.estimate == pytest.approx(-0.03)


def test_seeds_that_all_differ_by_the_same_say_nothing_of_other_seeds():
    for method, share in (("lora", 0.6), ("mola", 0.9)):
        for seed in (0, 1, 2):
            made = leave(Path(f"outputs/{method}-s{seed}"), method, seed, share)
            made.scores["last"] = {"scores": {"accuracy": share}}
            records.write_record(Path(f"outputs/{method}-s{seed}"), made)
    cell = table_of(Path("outputs")).cells["lora", "rte"]
    assert cell.is_close
    assert cell.difference.interval.p == 1.0


def test_arms_without_a_seed_in_common_are_not_compared(capsys):
    outputs(seeds=(0, 1), lora=0.6)
    outputs(seeds=(2, 3), mola=0.9)
    assert main(["compare", "outputs", "--cols", "task"]) == 0
    shown = capsys.readouterr().out
    assert "no seed in common" in shown
    assert "seeds differ in rte: 0, 1 (LORA); 2, 3 (MOLA)" in shown


class Fake:
    """A run that has nothing but a score."""

    def __init__(self, seed, score):
        self.record = records.Record(name="a", variant="v", seed=seed, settings={"method": {}})
        self.value = float(score)

    def score(self, which, metric=None):
        return self.value

    def correctness(self, which):
        return None

    def values(self, which, metric):
        return None


def test_the_best_of_many_equal_arms_is_seldom_significantly_better_than_another():
    """The best is picked by the same runs: without counting every pair, one in nine such tables would err."""
    stream = np.random.default_rng(7)
    wrong = 0
    for _ in range(150):
        cells = {}
        for arm in range(8):
            runs = [Fake(seed, score) for seed, score in enumerate(stream.normal(0.7, 0.02, 6))]
            cells[f"arm{arm}", "task"] = Cell(runs, METRICS["accuracy"], None, "last")
        table = Comparison(["method"], ["task"], [row for row, _ in cells], ["task"], cells, "last", None)
        judge(table)
        wrong += any(not cell.is_close and not cell.is_best for cell in cells.values())
    assert wrong / 150 <= 0.05 + 2 * (0.05 * 0.95 / 150) ** 0.5
