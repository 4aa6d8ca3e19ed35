"""`molex compare --figure`: the forest plot as a file for a paper."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support.made_records import leave, outputs, table_of

from molex_cli.cli import main
from molex_cli.compare import figure
from molex_cli.compare.effects import effects
from molex_cli.compare.layout import Report
from molex_cli.errors import ConfigError


@pytest.fixture
def runs():
    return str(outputs(lora=0.6, mola=0.9, molex=0.89))


def written(runs, *names, options=()):
    """Return what the command writes to files of these names."""
    for name in names:
        assert main(["compare", runs, "--figure", name, *options]) == 0
    return [Path(name).read_bytes() for name in names]


def test_a_figure_is_what_its_name_says_of_the_width_of_a_column(runs):
    pdf, svg, png, upper = written(runs, "a.pdf", "a.svg", "a.png", "a.PDF")
    assert pdf.startswith(b"%PDF-")
    assert upper == pdf
    assert re.search(rb"/MediaBox \[ 0 0 237\.6 ", pdf)
    assert b'width="237.6pt"' in svg
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 1980  # 3.3 inches of 600 dots


def test_a_pdf_has_its_fonts_in_it_as_truetype(runs):
    (pdf,) = written(runs, "a.pdf")
    assert b"/FontFile2" in pdf
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    assert not re.search(rb"/(Image|CreationDate)\b", pdf)


def test_the_same_runs_make_the_same_figure_and_leave_no_trace_in_matplotlib(runs):
    import matplotlib

    before = dict(matplotlib.rcParams)
    for name in ("a.pdf", "a.svg", "a.png"):
        assert written(runs, name) == written(runs, name)
    assert dict(matplotlib.rcParams) == before


def test_a_figure_is_made_beside_what_else_is_written(runs, capsys):
    assert main(["compare", runs]) == 0
    alone = capsys.readouterr()
    assert main(["compare", runs, "--figure", "a.svg"]) == 0
    beside = capsys.readouterr()
    assert beside.out == alone.out
    assert beside.err == "written: a.svg\n"


def test_a_width_is_in_inches(runs):
    (svg,) = written(runs, "a.svg", options=["--figure-width", "6.5"])
    assert b'width="468pt"' in svg


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--figure", "a.jpg"], "--figure must be a file of .pdf, .svg, .png, got a.jpg"),
        (["--figure", "a"], "--figure must name a file such as scores.pdf, got a; one of scores"),
        (["--figure", "no/where.pdf"], "--figure must be a file in a folder that is there, got no/where.pdf"),
        (["--figure", "folder.pdf"], "--figure must be a file in a folder that is there, got folder.pdf"),
        (["--figure", "a.pdf", "--figure-width", "0"], "--figure-width must be 2 to 20 inches, got 0"),
        (["--figure", "a.pdf", "--figure-width", "nan"], "--figure-width must be a finite number, got nan"),
        (["--figure-width", "3"], "--figure-width must come with --figure, got 3 alone; add --figure FILE.pdf"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(runs, capsys, options, told):
    Path("folder.pdf").mkdir()
    assert main(["compare", runs, *options]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert told in shown.err
    assert shown.err.count("\n") == 1
    assert {path.name for path in Path().iterdir()} == {"outputs", "folder.pdf"}


def test_without_a_difference_there_is_nothing_to_draw_and_an_older_figure_stays(capsys):
    outputs(seeds=(0, 1), lora=0.6)
    outputs(seeds=(2, 3), mola=0.9)
    Path("a.pdf").write_text("older")
    assert main(["compare", "outputs", "--figure", "a.pdf"]) == 2
    shown = capsys.readouterr()
    assert "--figure must have differences to draw, got none: no two arms of a column share a seed" in shown.err
    assert Path("a.pdf").read_text() == "older"


def texts_of(path):
    """Return the texts of an SVG whose letters are outlines: matplotlib names each in a comment."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(), re.S)


def test_a_name_is_text_and_no_formula():
    leave(Path("outputs/odd"), "odd", 0, 0.5, display={"method": "$x_$"})  # as a formula it would be an error
    leave(Path("outputs/other"), "other", 0, 0.6, display={"method": "\\frac{1}{2}\x1b[2J$"})
    for name in ("a.svg", "a.pdf", "a.png"):
        assert main(["compare", "outputs", "--figure", name]) == 0
    shown = "".join(texts_of(Path("a.svg")))
    assert "$x_$" in shown
    assert "$x_$ - " not in Path("a.svg").read_text()  # tooltips are for the page
    assert "\\frac{1}{2}\\u001b[2J$" in shown.replace("\n", "")


def test_a_letter_that_the_font_lacks_is_its_code_point(recwarn):
    report = Report(table_of(outputs(lora=0.6, mola=0.9)))
    own = [replace(each, one="中▽é") for each in effects(report.table)]
    figure.write(replace(report, effects=own), Path("a.svg"))
    assert "U+4E2D▽é" in texts_of(Path("a.svg"))
    assert not recwarn.list


def test_a_wide_or_narrow_figure_of_anything_is_drawn_without_a_warning(recwarn):
    table = table_of(outputs(lora=0.6, mola=0.9))
    own = [replace(each, one="x" * 300, verdict="y" * 300, column="z " * 200) for each in effects(table)]
    for width in figure.WIDTHS:
        figure.write(Report(table, effects=own), Path("a.png"), width)
    assert not recwarn.list
    with pytest.raises(ConfigError, match="--figure-width must be 2 to 20 inches, got 1"):
        figure.write(Report(table, effects=own), Path("a.png"), 1.0)


@pytest.mark.latex
def test_the_text_of_a_pdf_can_be_read(runs):
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not installed")
    written(runs, "a.pdf")
    shown = subprocess.run(["pdftotext", "-raw", "a.pdf", "-"], capture_output=True, text=True, check=True).stdout
    for words in ("rte minilm: difference from MOLA", "LORA", "difference in accuracy %", "(higher is better)"):
        assert words in shown
