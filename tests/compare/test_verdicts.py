"""The verdict on a column as a sentence."""

from pathlib import Path

from support.made_records import leave, outputs, table_of

from molex_cli.compare.verdicts import verdicts


def test_what_is_better_is_told_with_its_interval_seeds_and_p_and_what_could_not_be_shown_with_its_power():
    table = table_of(outputs(lora=0.6, mola=0.9, molex=0.89))
    (told,) = verdicts(table)
    cells = table.column("rte")
    worse, alike = (cells[row].difference for row in ("lora", "molex"))
    low, high = -100 * worse.interval.high, -100 * worse.interval.low
    assert told == (
        f"rte: MOLA is better (when it trains) than LORA by {-100 * worse.interval.estimate:.2f} points "
        f"(95 % {low:.2f} to {high:.2f}, 3 seeds, p {worse.adjusted:.2g} after Holm); "
        f"no difference of MOLEX from MOLA could be shown; 3 runs of each could have found "
        f"{100 * alike.detectable:.2f} points."
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
