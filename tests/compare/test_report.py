"""What a report has besides its table: answers, differences and further tables, in every format."""

import csv
import io
import json
import re

import pytest
from markdown_it import MarkdownIt
from support.made_records import outputs, table_of

from molex_cli.cli import main
from molex_cli.compare import formats
from molex_cli.compare.effects import Effect
from molex_cli.compare.layout import Report, Section
from molex_cli.compare.remarks import Heading, Note

ANSWERS = ["MOLA is better than LORA", "The rest is open"]
TUNED = Section("Tuning", ["arm", "rate", "edge"], [["MOLA", "0.001", "no"], ["LORA", "0.02", "the largest"]], "Of 3.")
EFFECTS = [
    Effect("rte", "MOLA", "LORA", 1.5, 0.5, 2.5, 0.01, 5, "supported", "by a race", "accuracy %"),
    Effect("rte", "MOLA", "HEAD", 0.2, -float("inf"), float("inf"), float("nan"), 2, "open", "", "accuracy %"),
]


@pytest.fixture
def report():
    table = table_of(outputs(lora=0.6, mola=0.9))
    return Report(
        table, [Note(Heading.claims, "a note")], title="A study", answers=ANSWERS, effects=EFFECTS, sections=[TUNED]
    )


@pytest.mark.parametrize("name", ["html", "json", "latex", "md", "table"])
def test_answers_come_first_and_all_sections_are_shown(report, name):
    shown = formats.text(name, report)
    shown = shown[shown.index("<body>") :] if name == "html" else shown
    places = [shown.index(each) for each in ("A study", *ANSWERS)]
    others = [shown.index(each) for each in ("mean ±", "a note", "by a race", "the largest", "Of 3.", "supported")]
    assert places == sorted(places)
    assert max(places) < min(others)


def test_csv_has_the_cells_alone(report):
    shown = formats.text("csv", report)
    assert shown == formats.text("csv", Report(report.table))
    assert {line["name"] for line in csv.DictReader(io.StringIO(shown))} == {"LORA", "MOLA"}


def test_json_has_them_as_data(report):
    found = json.loads(formats.text("json", report))
    assert (found["title"], found["answers"]) == ("A study", ANSWERS)
    assert found["sections"] == [
        {"title": "Tuning", "head": TUNED.head, "rows": TUNED.rows, "note": "Of 3."},
    ]
    first, second = found["effects"]
    assert (first["estimate"], first["low"], first["p"], first["verdict"]) == (1.5, 0.5, 0.01, "supported")
    assert (second["low"], second["high"], second["p"]) == (None, None, None)  # JSON has no infinity
    own = next(cell["difference"] for cell in found["cells"] if cell["difference"])
    assert own["interval"]["low"] < own["interval"]["estimate"]


def test_markdown_has_a_table_of_each(report):
    tokens = MarkdownIt("commonmark").enable("table").parse(formats.text("md", report))
    assert [token.type for token in tokens].count("table_open") == 3
    cells = [token.content for token in tokens if token.type == "inline"]
    start = cells.index("arm")
    head = ["arm", "minus", "column", "difference", "95 %", "p, adjusted", "n", "verdict", "detail"]
    assert cells[start : start + 9] == head


def test_latex_shows_the_arms_alone_and_keeps_the_other_tables_in_comments(report):
    shown = formats.text("latex", report)
    assert len(re.findall(r"^\\begin\{tabular\}", shown, re.M)) == 1
    assert len(re.findall(r"^% \\begin\{tabular\}", shown, re.M)) == 2
    assert "% MOLA & LORA & rte accuracy \\% & +1.50 & {[}+0.50, +2.50{]} & 0.01 & 5 & supported \\\\" in shown


def test_a_terminal_of_100_columns_shows_a_difference_in_a_row_and_what_else_is_known_under_it(capsys):
    outputs(mola_inverted=0.6, lora=0.9, bitfit=0.89)
    assert main(["compare", "outputs"]) == 0
    shown = capsys.readouterr().out
    block = shown[shown.index("differences in rte minilm accuracy % from LORA") :].splitlines()
    assert all(len(line) <= 100 for line in block)
    first, second = (number for number, line in enumerate(block) if line.startswith(("MOLA", "BITFIT")))
    assert block[first].index("  3  ") == block[second].index("  3  ") == block[1].index("  n  ")
    assert block[first + 1].startswith("  over seeds and examples, permutation p ")
    assert "0 of 3 seeds collapsed, up to 63 % may" in " ".join(" ".join(block).split())


def test_differences_that_are_equal_in_all_are_each_shown(report):
    twice = Report(report.table, effects=[EFFECTS[0], EFFECTS[0]])
    for name, times in (("table", 2), ("md", 2), ("latex", 2)):
        assert formats.text(name, twice).count("by a race") == times


@pytest.mark.parametrize("name", ["html", "latex", "md", "table"])
def test_nothing_is_said_of_differences_where_there_are_none(name):
    shown = formats.text(name, Report(table_of(outputs(lora=0.6))))
    if name == "html":
        assert "No two arms are compared." in shown
        assert 'id="differences"' not in shown
    else:
        assert "ifferences" not in shown


def test_columns_of_numbers_are_flush_right():
    section = Section("", ["a", "b", "c", "d"], [["1", "+1.5 %", "[-1, +2]", "x"], ["–", "1e-05", "unknown", "2"]])
    assert section.numeric() == [True, True, True, False]


def test_the_page_names_its_study_and_sorts_its_tables(report):
    page = formats.text("html", report)
    assert "<title>A study</title>" in page
    assert page.index('id="differences"') < page.index('id="arms"')  # the answers' own evidence
    plain = formats.text("html", Report(report.table))
    assert "<title>molex compare: rte</title>" in plain
    assert plain.index('id="arms"') < plain.index('id="differences"')
    assert re.findall(r'<table id="(\w+)"( data-arms)?', page) == [
        ("differences", " data-arms"),
        ("arms", " data-arms"),
        ("section1", ""),
        ("runs", " data-arms"),
    ]
    assert '<td class="text" data-value="MOLA"><div>MOLA</div></td><td data-value="0.001">0.001</td>' in page
