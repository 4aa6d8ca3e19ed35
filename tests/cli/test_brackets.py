"""Square brackets in a name are text in every command, from the training to the tables."""

from pathlib import Path

import pytest
from support.runs import working_in

from molex_cli.cli import main

NAME, DISPLAY = "x[/b]y", "[red]R"
TRAIN = ["train", "experiment=smoke", "train.max_steps=1", f'task.name="{NAME}"', f'method.display_name="{DISPLAY}"']


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with a run whose task and method have brackets in their names."""
    folder = tmp_path_factory.mktemp("brackets")
    with working_in(folder):
        assert main([*TRAIN, "log.wandb=disabled"]) == 0
    return folder


COMMANDS = {
    "eval": (["eval", "run={run}"], NAME),
    "probe": (["probe", "run={run}"], NAME),
    "experts": (["experts", "{run}"], NAME),
    "compare": (["compare", "outputs", "--cols", "task"], DISPLAY),
    "diff": (["diff", "{run}", "{run}"], ""),
    "sync": (["sync", "outputs", "--dry-run"], ""),
    "plan": (["plan", *TRAIN[1:]], DISPLAY),
    "again": ([*TRAIN, "log.wandb=disabled"], "finished before"),
    "sweep": ([*TRAIN, "-m", "seed=0", "log.wandb=disabled"], ""),
    "predict": (["predict", "run={run}", "--file", "rows.tsv"], "prediction"),
    "unknown": (["x[/b]y"], NAME),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_brackets_are_text(trained, name, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    Path("rows.tsv").write_text("premise\thypothesis\nA cat sleeps [/b].\tAn animal [red] sleeps.\n")
    (run,) = (path.parent for path in Path("outputs").glob("*/record.json"))
    arguments, shown = COMMANDS[name]
    code = main([argument.format(run=run) for argument in arguments])
    out, err = capsys.readouterr()
    assert code == (2 if name == "unknown" else 0), err
    assert shown in out + err
    assert "Traceback" not in out + err
