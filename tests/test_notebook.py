"""docs/tutorial.ipynb runs from its first cell to its last, in a folder that knows nothing of this one."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
PATH = Path(__file__).resolve().parent.parent / "docs/tutorial.ipynb"


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_kept_without_outputs():
    cells = code_of(nbformat.read(PATH, as_version=4))
    assert cells
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_it_says(tmp_path):
    there = {"metadata": {"path": tmp_path}}
    client = nbclient.NotebookClient(
        nbformat.read(PATH, as_version=4), timeout=600, startup_timeout=300, resources=there
    )
    found = {cell.source.splitlines()[-1]: cell.outputs for cell in code_of(client.execute())}
    shown = {line: outputs[-1]["data"] for line, outputs in found.items() if outputs and "data" in outputs[-1]}
    assert len(found["compared"]) == 1
    assert "LoRA" in shown["compared"]["text/markdown"]
    assert "<svg" in shown['SVG(compared.figure("scores.svg", kind="scores"))']["image/svg+xml"]
    frames = [data["text/html"] for data in shown.values() if "text/html" in data]
    assert len(frames) == 2
    assert "last.accuracy" in frames[0]
    assert "verdict" in frames[1]
    assert len(list(tmp_path.glob("outputs/*/record.json"))) == 6
