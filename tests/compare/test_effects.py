"""The differences of a table in the words and units that people read."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from support.made_records import leave, outputs, table_of

from molex_cli.compare.effects import Effect, effects, in_words, sentence
from molex_cli.compare.layout import Report
from molex_cli.compare.remarks import Heading, Note

KNOWN = Effect("rte", "MOLA", "LORA", 1.234, -0.5, 2.96, 0.04567, 5, "significant", "over seeds", "accuracy %")


def test_an_effect_is_the_difference_in_the_unit_that_is_shown():
    table = table_of(outputs(lora=0.6, mola=0.9), against="lora")
    (found,) = effects(table)
    own = table.cells["mola", "rte"].difference
    assert (found.column, found.one, found.other, found.metric) == ("rte", "MOLA", "LORA", "accuracy %")
    shown = (found.estimate, found.low, found.high)
    assert shown == pytest.approx([100 * each for each in (own.interval.estimate, own.interval.low, own.interval.high)])
    assert (found.p, found.seeds, found.higher_is_better) == (own.adjusted, 3, True)
    assert found.detail.startswith(f"over seeds and examples, permutation p {own.permutation:.3g}")
    assert f"80 % power at {own.detectable * 100:.2f}" in found.detail


def test_a_score_of_which_less_is_better_says_so():
    table = table_of(outputs(lora=0.6, mola=0.9))
    for cell in table.cells.values():
        cell.metric = replace(cell.metric, higher_is_better=False, high=50.0)
    (found,) = effects(table)
    assert not found.higher_is_better
    assert found.metric == "accuracy"
    assert found.estimate == pytest.approx(table.cells["lora", "rte"].difference.interval.estimate)


def verdicts(folder):
    return {each.one: each.verdict for each in effects(table_of(folder))}


def test_a_verdict_says_what_it_rests_on():
    outputs(lora=0.6, mola=0.9, molex=0.89)
    leave(Path("outputs/single"), "head", 0, 0.5)
    outputs(seeds=(7, 8, 9), bitfit=0.7)
    assert verdicts(Path("outputs")) == {
        "LORA": "significant when it trains",
        "MOLEX": "not significant",
        "HEAD": "no p of so few seeds",
        "BITFIT": "no seed in common",
    }
    leave(Path("outputs/fallen"), "full", 1, 0.1, degenerate=["all predictions are the same"])
    assert verdicts(Path("outputs"))["LORA"] == "undecided, collapses"


def test_many_seeds_make_a_verdict_that_rests_on_nothing():
    assert verdicts(outputs(seeds=range(8), lora=0.6, mola=0.9)) == {"LORA": "significant"}


def test_one_seed_has_mcnemar_and_two_arms_without_a_seed_in_common_have_nothing():
    outputs(seeds=(0,), lora=0.6, mola=0.9)
    outputs(seeds=(1, 2), molex=0.95)
    found = {each.one: each for each in effects(table_of(Path("outputs"), against="lora"))}
    assert "McNemar" in found["MOLA"].detail
    assert "which ignores that other seeds differ" in found["MOLA"].detail
    none = found["MOLEX"]
    assert math.isnan(none.estimate)
    assert (none.seeds, none.detail) == (0, "")
    assert in_words(none)[3:6] == ["–", "–", "–"]


def test_an_effect_is_told_in_cells_and_in_a_sentence():
    cells = ["MOLA", "LORA", "rte accuracy %", "+1.23", "[-0.50, +2.96]", "0.0457", "5", "significant"]
    assert in_words(KNOWN) == cells
    told = "rte: MOLA - LORA = +1.23, 95 % [-0.50, +2.96], p 0.0457, n = 5, significant, over seeds"
    assert sentence(KNOWN) == told
    assert in_words(replace(KNOWN, low=-math.inf))[4] == "unknown"
    assert in_words(replace(KNOWN, p=math.nan))[5] == "–"


def test_a_report_shows_the_effects_that_it_is_given_and_else_those_of_its_table():
    table = table_of(outputs(lora=0.6, mola=0.9))
    assert list(Report(table).differences()) == effects(table)
    assert list(Report(table, effects=[KNOWN]).differences()) == [KNOWN]
    assert list(Report(table, effects=[]).differences()) == []
    lines = Report(table, [Note(Heading.left_out, "a note")], answers=["an answer"], effects=[KNOWN]).lines()
    assert (lines[0], lines[-1]) == ("an answer", sentence(KNOWN))
    assert "Left out: a note" in lines
