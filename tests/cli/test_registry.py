"""A command is one new file: found, listed, completed and run, with no other file edited."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.made_records import leave

from molex_cli import cli
from molex_cli.cli import main, registry

SCORE_RANGE = '''
"""`molex score-range`: the first, best and last score of runs."""

from pathlib import Path

from molex_cli.cli.parser import Parser

SUMMARY = "the first, best and last score of runs"


def main(argv: list[str]) -> int:
    """Print a line for each run; the first score is there with train.evaluate_at_start=true."""
    parser = Parser("score-range", __doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs")
    options = parser.parse(argv)

    from molex_cli.records import read_record

    for run in options.runs:
        record = read_record(Path(run))
        metric, known = record.scores["metric"], [name for name in ("first", "best", "last") if name in record.scores]
        scores = "  ".join(f"{name} {record.scores[name]['scores'][metric]:.4f}" for name in known)
        print(f"{record.name} s{record.seed}  {metric}  {scores}")
    return 0
'''


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Put a new command's file where the package looks for them."""
    folder = tmp_path / "commands"
    folder.mkdir()
    (folder / "score_range.py").write_text(SCORE_RANGE.lstrip(), encoding="utf-8")
    (folder / "shared.py").write_text("def main(argv): ...\n", encoding="utf-8")
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(folder)])
    yield folder
    sys.modules.pop("molex_cli.cli.score_range", None)


def test_a_new_file_is_a_command(added, capsys, monkeypatch):
    leave(Path("outputs/one"), seed=3)
    assert main(["score-range", "outputs/one"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("a s3  accuracy  best 0.")
    assert main(["score-range"]) == 2
    assert "required: RUN" in capsys.readouterr().err
    monkeypatch.setenv("COMP_LINE", "molex score")
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.strip() == "score-range"


def test_a_new_file_is_in_the_help_after_the_named_ones_without_being_imported(added, capsys):
    assert main(["--help"]) == 0
    assert "  score-range the first, best and last score of runs\n" in capsys.readouterr().out
    assert list(registry.commands()) == [*registry.ORDER, "score-range"]
    assert "molex_cli.cli.score_range" not in sys.modules


def test_a_file_without_a_summary_is_no_command(added, capsys):
    for name in ("shared", "parser", "registry", "list-", "train_", "--init"):
        assert main([name]) == 2
        assert f"got {name}" in capsys.readouterr().err


def test_a_mistake_in_the_arguments_of_any_command_imports_no_torch(tmp_path):
    code = "import sys; from molex_cli.cli import main, registry\n"
    code += "assert {main([name, '--no-such-flag']) for name in registry.commands()} == {2}\n"
    code += "assert not {'torch', 'transformers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flag", ["--figures", "--figures=plots", "--knock-out"])
def test_a_flag_typed_by_its_old_name_hints_at_the_new_one(flag, capsys):
    assert main(["experts", "outputs/one", flag, "layers"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    old, new = flag.partition("=")[0], {"--f": "--plots", "--k": "--ablate"}[flag[:3]]
    assert line == f"molex: the arguments must be those that --help lists, got: {old}; did you mean {new}?"
