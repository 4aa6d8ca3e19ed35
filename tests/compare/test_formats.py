"""Each format of a comparison: its golden file, on a terminal and in a file, and one that is added."""

import csv
import io
import json
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from support import hostile
from support.added_files import added
from support.golden import assert_golden
from support.made_records import leave, outputs

from molex_cli.cli import main
from molex_cli.compare import formats
from molex_cli.compare.formats.latex import LATEX, PRINTS, escaped
from molex_cli.runtime.streams import visible

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["md", "csv", "json", "latex", "table"])
def test_every_format_is_the_golden_file(name, capsys):
    outputs(lora=0.6, mola=0.9, molex=0.89)
    leave(Path("outputs/head"), "head", 0, 0.4, degenerate=["all predictions are the same"])
    leave(Path("outputs/cola"), "lora", 0, 0.4, task="cola")
    assert main(["compare", "outputs", "--cols", "task", "--format", name]) == 0
    shown = capsys.readouterr().out
    assert_golden(shown, GOLDEN / f"compare.{name}")
    if name == "csv":
        assert {line["n"] for line in csv.DictReader(io.StringIO(shown))} == {"1", "3"}
    if name == "json":
        assert json.loads(shown)["cells"][0]["by_seed"]


def test_a_missing_golden_file_fails_and_is_written_only_when_that_is_asked_for(tmp_path, monkeypatch):
    path = tmp_path / "compare.md"
    monkeypatch.delenv("MOLEX_RENEW_GOLDEN", raising=False)
    with pytest.raises(AssertionError, match=r"the golden file compare\.md is missing; `make golden`"):
        assert_golden("text", path)
    assert not path.exists()
    path.write_text("other")
    with pytest.raises(AssertionError, match=r"compare\.md is another; if that is meant, `make golden`"):
        assert_golden("text", path)
    monkeypatch.setenv("MOLEX_RENEW_GOLDEN", "1")
    assert_golden("text", path)
    assert path.read_text() == "text"


def compiled(body):
    """Return the text of the PDF that LaTeX makes of a table, without its spaces; skip without LaTeX."""
    if not (shutil.which("pdflatex") and shutil.which("pdftotext")):
        pytest.skip("pdflatex or pdftotext is not installed")
    head = "\\documentclass{article}\n\\pdfpagewidth=5000mm\n\\usepackage{booktabs,amssymb}\n"
    Path("table.tex").write_text(f"{head}\\begin{{document}}\n{body}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stdout[-2000:]
    log = Path("table.log").read_text(errors="replace")
    assert "Missing character" not in log
    assert "secret" not in "".join(re.findall(r"\(\./\S+", log))  # no other file was read
    shown = subprocess.run(["pdftotext", "-raw", "table.pdf", "-"], capture_output=True, text=True, check=True)
    signs = str.maketrans("”ˆ˜", '"^~')  # what TeX's fonts have for them
    return re.sub(r"\s", "", unicodedata.normalize("NFC", shown.stdout).translate(signs))


@pytest.mark.latex
def test_the_latex_table_compiles():
    table = (GOLDEN / "compare.latex").read_text()
    names = "MoLA-▽ MoLA-Δ MoLA-⋈ MoLA-□ α ◇ a_b 50% & # $ {x} ~ ^ \\ ± ↑ ↓ – ° † ‡ ᵖ"
    full = table.replace("MOLEX &", escaped(names) + " &")
    assert full != table
    assert "50%&#${x}" in compiled(full)


@pytest.mark.latex
@pytest.mark.parametrize("options", [(), ("--caption", "Accuracy of 3 arms & 2 tasks", "--label", "tab:all_arms")])
def test_a_latex_table_of_three_arms_and_two_tasks_fits_the_text_of_a_page(options):
    for method, name in (("lora", "LoRA"), ("mola_inverted", "MoLA-▽"), ("molex_paper", "MoLEx (paper)")):
        for task in ("glue/rte", "glue/mrpc"):
            for seed in range(10):
                leave(Path(f"outputs/{method}-{task[5:]}-{seed}"), method, seed, 0.9, task=task,
                      display={"method": name}, parameters={"trainable": 12_644_610})  # fmt: skip
    assert main(["compare", "outputs", "--format", "latex", "--output", "arms.tex", *options]) == 0
    shown = compiled("\\input{arms.tex}\n")
    assert "12,644,610" in shown
    assert ("Table1:Accuracyof3arms&2tasks" in shown) is bool(options)
    assert "Overfull" not in Path("table.log").read_text(errors="replace")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--caption", "a"], "--caption must go with --format latex, got table"),
        (["--format", "latex", "--label", "a"], "--label must go with --caption, got a alone"),
        (
            ["--format", "latex", "--caption", "a", "--label", "a}b"],
            "--label must be of letters, digits and : . - _, got a}b",
        ),
        (["--format", "csv", "--columns", "all"], "--columns must go with a format that leaves some out, got csv"),
        (["--columns", "trainble"], "--columns must name columns of the table, got trainble; did you mean trainable?"),
        (["--columns", ","], "--columns must name a column at least, got none"),
    ],
)
def test_columns_and_captions_that_cannot_be_are_refused_in_one_line(options, told, capsys):
    outputs(lora=0.6, mola=0.9)
    assert main(["compare", "outputs", *options]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.latex
def test_every_letter_that_latex_prints_as_it_is_has_a_glyph():
    assert compiled("\n\n".join(map(escaped, sorted(PRINTS - {" "}))))


@pytest.mark.latex
def test_latex_prints_hostile_text_as_it_is():
    Path("secret.tex").write_text("owned")
    text = "".join(hostile.PIECES)
    shown = compiled(formats.text("latex", hostile.report(text)))
    text = " ".join(visible(text).split())
    assert "owned" not in shown.replace("title='owned'", "")
    lacking = {each: f"U+{ord(each):04X}" for each in text if each not in PRINTS and each not in LATEX}
    expected = "".join(lacking.get(each, each) for each in text)
    assert re.sub(r"[\s_▽]", "", expected) in re.sub("[_▽]", "", shown)  # a rule and a drawing, not letters of a font


@pytest.mark.latex
def test_the_tables_in_comments_compile_when_they_are_taken_out():
    shown = formats.text("latex", hostile.report("".join(hostile.PIECES)))
    tables = re.findall(r"^% (\\begin\{tabular\}.*?^% \\end\{tabular\})$", shown, re.M | re.S)
    text = compiled("\n\n".join(each.replace("\n% ", "\n") for each in tables))
    assert len(tables) == 2
    assert "verdict" in text
    assert "cell" in text


def test_every_format_is_written_to_a_file_as_it_is_shown(capsys):
    outputs(lora=0.6, mola=0.9)
    for name in formats.names():
        capsys.readouterr()
        assert main(["compare", "outputs", "--format", name]) == 0
        shown = capsys.readouterr().out
        assert main(["compare", "outputs", "--format", name, "--output", "file"]) == 0
        assert capsys.readouterr().out == ""
        assert Path("file").read_text() == shown


def test_the_table_has_styles_in_a_terminal_and_none_in_a_file(monkeypatch, capsys):
    outputs(lora=0.6, mola=0.9, molex=0.895)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as if it were a terminal
    assert main(["compare", "outputs"]) == 0
    shown = capsys.readouterr().out
    assert re.search("\\x1b\\[1m *9\\d", shown)
    assert re.search("\\x1b\\[4m *[89]\\d", shown)
    assert main(["compare", "outputs", "--output", "file"]) == 0
    assert "\x1b" not in Path("file").read_text()


HTML_LIST = '''"""A list of arms, for a page that has a style of its own."""

from html import escape

from molex_cli.compare.layout import Report, matrix


def text(report: Report) -> str:
    """Return one item for each arm, with its first score."""
    _, lines = matrix(report.table)
    return "".join(f"<li>{escape(name)}: {escape(cells[0].text)}</li>\\n" for name, cells in lines)
'''


def test_a_format_in_a_file_of_its_own_is_a_choice_of_the_command(tmp_path, capsys):
    outputs(lora=0.6, mola=0.9)
    with added(formats, "html_list", HTML_LIST, tmp_path / "added"):
        assert main(["compare", "outputs", "--format", "html_list"]) == 0
        assert capsys.readouterr().out == "<li>LORA: 63.00 ± 0.87 (3)</li>\n<li>MOLA: 92.17 ± 0.76 (3)</li>\n"
        with pytest.raises(SystemExit):
            main(["compare", "--help"])
        assert "html_list" in capsys.readouterr().out
    assert main(["compare", "outputs", "--format", "html_list"]) == 2


def test_a_table_is_written_to_a_file_at_once(capsys):
    outputs(lora=0.6)
    assert main(["compare", "outputs", "--format", "md", "--output", "table.md"]) == 0
    assert "\n| method |" in Path("table.md").read_text()
    assert main(["compare", "outputs", "--format", "md", "--output", "no/where.md"]) == 2
