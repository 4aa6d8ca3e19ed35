"""The verdict on a column as a sentence."""

import math
from pathlib import Path

from support.made_records import leave, outputs, table_of

from molex_cli.compare.verdicts import verdicts
from molex_cli.metrics.base import METRICS, Metric


def test_what_is_better_is_told_with_its_interval_seeds_and_p_and_what_could_not_be_shown_with_its_power():
    table = table_of(outputs(lora=0.6, mola=0.9, molex=0.89))
    (told,) = verdicts(table)
    cells = table.column("rte")
    worse, alike = (cells[row].difference for row in ("lora", "molex"))
    low, high = -100 * worse.interval.high, -100 * worse.interval.low
    assert told == (
        f"rte: MOLA is better (when it trains) than LORA by {-100 * worse.interval.estimate:.2f} points "
        f"(95 % {low:.2f} to {high:.2f}, 3 seeds, p {worse.adjusted:.2g} after Holm); "
        f"no difference of MOLEX from MOLA could be shown; 3 runs of each find one of "
        f"{100 * alike.detectable:.2f} points with 80 % power."
    )


def test_against_an_arm_the_better_and_the_worse_are_told():
    (told,) = verdicts(table_of(outputs(lora=0.6, mola=0.9, molex=0.3), against="lora"))
    assert "MOLA is better (when it trains) than LORA by" in told
    assert "LORA is better (when it trains) than MOLEX by" in told


def test_of_many_arms_the_closest_are_named():
    shares = {f"arm{i}": 0.3 + 0.05 * i for i in range(6)}
    (told,) = verdicts(table_of(outputs(**shares, best=0.95)))
    assert told.count("points") == 3
    assert "than ARM5 by" in told
    assert "than 3 others by more" in told


def test_a_single_other_is_one_other():
    shares = {f"arm{i}": 0.3 + 0.05 * i for i in range(4)}
    (told,) = verdicts(table_of(outputs(**shares, best=0.95)))
    assert "than 1 other by more" in told
    for i in range(4):
        leave(Path(f"outputs/few{i}"), f"few{i}", 0, 0.5)
    assert "nothing is concluded of FEW0, FEW1, FEW2 and 1 other against BEST" in verdicts(table_of(Path("outputs")))[0]


def test_arms_that_were_scored_on_other_rows_are_told_in_the_verdict():
    for method, share, rows in (("lora", 0.6, "f"), ("mola", 0.9, "g")):
        for seed in range(3):
            about = {"validation": {"fingerprint": rows}}
            leave(Path(f"outputs/{method}-s{seed}"), method, seed, share, data=about)
    (told,) = verdicts(table_of(Path("outputs")))
    assert told.endswith("; but not all arms were scored on the same rows.")


def test_where_less_is_better_the_lower_score_wins(monkeypatch):
    monkeypatch.setitem(
        METRICS, "mse", Metric(name="mse", function=max, kinds=(), higher_is_better=False, high=math.inf)
    )
    for method, loss in (("lora", 0.9), ("mola", 0.3)):
        for seed in range(3):
            score = {"step": 9, "scores": {"mse": loss + 0.01 * seed * (method == "lora")}}
            scores = {"metric": "mse", "last": score, "best": score}
            leave(Path(f"outputs/{method}-s{seed}"), method, seed, scores=scores)
    (told,) = verdicts(table_of(Path("outputs")))
    assert told.startswith("rte: MOLA is better (when it trains) than LORA by 0.61 mse (95 % ")


def test_where_nothing_can_be_concluded_the_reason_is_told():
    outputs(lora=0.6, mola=0.9)
    leave(Path("outputs/cola"), "lora", 0, 0.4, task="cola")
    for seed in (0, 1):
        leave(Path(f"outputs/few{seed}"), "few", seed, 0.5)
    first, second = verdicts(table_of(Path("outputs")))
    assert first == "cola: nothing is compared: LORA is the only arm."
    assert "nothing is concluded of FEW against MOLA (no p of so few seeds)" in second
    first, _ = verdicts(table_of(Path("outputs"), against="mola"))
    assert first == "cola: nothing is compared: LORA is the only arm."
