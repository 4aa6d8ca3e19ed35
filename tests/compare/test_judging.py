"""Which tests a table makes, by which variance, and at which level."""

import math
from pathlib import Path

import numpy as np
import pytest
from support.made_records import leave, outputs, table_of

from molex_cli.cli import main
from molex_cli.compare.judging import pooled_variance
from molex_cli.statistics.intervals import pooled_seed_variance


def test_arms_with_seeds_in_common_share_the_variance_over_seeds():
    column = table_of(outputs(lora=0.6, mola=0.9, molex=0.8)).column("rte")
    scores = np.array([list(cell.by_seed.values()) for cell in column.values()])
    assert pooled_variance(list(column.values())) == pooled_seed_variance(scores)
    leave(Path("outputs/single"), "head", 0, 0.7)  # has no p, and no say
    column = table_of(Path("outputs")).column("rte")
    assert pooled_variance(list(column.values())) == pooled_seed_variance(scores)


def test_arms_without_enough_seeds_in_common_have_each_pair_its_own_variance(capsys):
    outputs(seeds=(0, 1, 2), lora=0.6, mola=0.9)
    outputs(seeds=(2, 3, 4), molex=0.7)
    column = table_of(Path("outputs")).column("rte")
    assert pooled_variance(list(column.values())) is None
    assert column["lora"].difference.variance == "pair"
    assert main(["compare", "outputs", "--cols", "task", "--verbose"]) == 0
    assert "variance over seeds: each pair's own in rte" in capsys.readouterr().out


def test_an_arm_of_one_seed_is_never_the_best_and_never_tested():
    outputs(lora=0.6, mola=0.7)
    leave(Path("outputs/lucky"), "head", 0, 0.99)
    cells = table_of(Path("outputs")).column("rte")
    assert [row for row, cell in cells.items() if cell.is_best] == ["mola"]
    assert not cells["head"].is_close
    assert math.isnan(cells["head"].difference.adjusted)
    alone = table_of(outputs_of_one()).column("cola")
    assert not any(cell.is_best for cell in alone.values())


def outputs_of_one():
    for method in ("lora", "mola"):
        leave(Path(f"single/{method}"), method, 0, 0.5, task="cola")
    return Path("single")


def test_pairs_without_a_p_leave_the_family():
    outputs(seeds=(0, 1, 2), lora=0.6, mola=0.9)
    before = table_of(Path("outputs")).cells["lora", "rte"].difference
    outputs(seeds=(7, 8), molex=0.7)
    leave(Path("outputs/other"), "head", 0, 0.5, task="cola")
    after = table_of(Path("outputs")).cells["lora", "rte"].difference
    assert after.adjusted == pytest.approx(before.adjusted)
    assert after.level == before.level == 0.05
    three = table_of(outputs(seeds=(0, 1, 2), bitfit=0.8)).cells["lora", "rte"].difference
    assert three.level == pytest.approx(0.05 / 3)


def test_how_many_seeds_a_named_difference_takes_is_told(capsys):
    outputs(lora=0.6, mola=0.9)
    assert main(["compare", "outputs", "--cols", "task", "--detect", "20"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    difference = table_of(Path("outputs")).cells["lora", "rte"].difference
    assert f"20.00 needs about {difference.needed(0.2)} seeds" in shown
    assert difference.needed(0.2) >= 3  # fewer have no p
    assert difference.needed(0.01) is None
    assert main(["compare", "outputs", "--detect", "0"]) == 2
    assert "--detect must be a difference above 0, got 0.0" in capsys.readouterr().err
    assert main(["compare", "outputs", "--detect", "nan"]) == 2
    assert "--detect must be a finite number, got nan" in capsys.readouterr().err


def test_the_table_says_among_how_many_evaluations_the_best_was_chosen(capsys):
    made = outputs(lora=0.6)
    assert main(["compare", str(made), "--which", "best", "--format", "md"]) == 0
    heading, _, line = (each for each in capsys.readouterr().out.splitlines() if each.startswith("|"))
    assert line.split("|")[heading.split("|").index(" evaluations ")].strip() == "?"  # records of before do not say


def test_arms_of_other_seeds_are_not_pooled_and_a_pair_of_two_seeds_has_its_own_variance():
    column = table_of(outputs(seeds=(0, 1, 2), lora=0.6, mola=0.9)).column("rte")
    pooled = pooled_variance(list(column.values()))
    assert pooled is not None
    column = table_of(outputs(seeds=(0, 1), head=0.7)).column("rte")
    assert pooled_variance(list(column.values())) == pooled
    assert [column[row].difference.variance for row in ("lora", "head")] == ["pooled", "pair"]
    assert column["head"].difference.interval.degrees_of_freedom <= 2
    column = table_of(outputs(seeds=(0, 1, 2, 3), molex=0.8)).column("rte")
    assert pooled_variance(list(column.values())) is None


def test_how_many_seeds_it_takes_is_told_of_claims_too_and_never_from_fewer_than_three(capsys):
    outputs(lora=0.6, mola=0.9)
    outputs(seeds=(0, 1), molex=0.7)
    Path("claims.yaml").write_text("- mola > lora on rte\n- mola > molex on rte\n")
    assert main(["compare", "outputs", "--cols", "task", "--detect", "20", "--claims", "claims.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first, second = (line for line in lines if line.startswith(("  mola > lora on rte:", "  mola > molex on rte:")))
    assert "20.00 needs about " in first
    told = "how many seeds find 20.00 cannot be estimated from 2 seeds like these"
    assert told in second
    assert sum(told in line for line in lines) == 2
