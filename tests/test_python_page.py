"""The Python of docs/python.md runs as printed, block after block, with tiny models in the place of those it names."""

import re
from pathlib import Path

import pandas

import molex_cli

PAGE = (Path(__file__).resolve().parent.parent / "docs/python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TINY = {
    '"model=smollm2_135m"': '"model=tiny_llama"',
    '"model=minilm"': '"model=tiny_bert"',
    "max_steps=20": "max_steps=2",
}


def test_the_first_script_has_at_most_fifteen_lines():
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 15


def test_the_page_names_every_function():
    functions = [name for name in molex_cli.__all__ if name.islower()]
    assert sorted(re.findall(r"^## ([a-z_]+)$", PAGE, re.MULTILINE)) == sorted(functions)


def test_the_blocks_run_as_printed(monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("MOLEX_DATA", raising=False)
    code = "\n".join(BLOCKS)
    for theirs, ours in TINY.items():
        assert theirs in code
        code = code.replace(theirs, ours)
    names = {}
    exec(compile(code, "docs/python.md", "exec"), names)
    said = capsys.readouterr().out
    assert len(list(Path("outputs").glob("files-*-s[012]"))) == 6
    assert "differences in files tiny_llama accuracy %" in said
    assert "'prediction': " in said
    assert "train.epoch is no setting; did you mean train.epochs?" in said
    assert isinstance(names["runs"], pandas.DataFrame)
    assert len(names["runs"]) == 7
    assert names["plan"].experts_per_layer == [8] * 8 + [6] * 8 + [4] * 8 + [2] * 8
    assert Path("scores.svg").is_file()
