"""The form of the JSON is the one that docs/compare.md states."""

import json
import re
from pathlib import Path

import pytest
from support.made_records import leave, outputs

from molex_cli.cli import main

DOCS = Path(__file__).parents[2] / "docs" / "compare.md"
OF_TUNING = {"tuned", "trials", "at_the_edge"}


def documented(name):
    """Return the keys of a table of the docs."""
    table = DOCS.read_text().split(f"<!-- keys: {name} -->")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {key for cell in cells for key in re.findall("`(.+?)`", cell)}


@pytest.fixture
def report(capsys):
    outputs(lora=0.6, mola=0.9)
    leave(Path("outputs/other"), "molex", 0, 0.5)
    assert main(["compare", "outputs", "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_documented_keys_are_those_of_the_json(report):
    cell = next(each for each in report["cells"] if each["difference"])
    assert set(report) == documented("report")
    assert set(cell) == documented("cells") - OF_TUNING
    assert set(cell["difference"]) == documented("difference")
    assert set(report["effects"][0]) == documented("effects")
    assert set(report["notes"][0]) == documented("notes")
    for key in cell["difference"]["interval"]:
        assert f"`{key}`" in DOCS.read_text()


def test_the_keys_of_tuning_are_documented(capsys):
    for seed in (0, 1, 1000):
        for rate in (1e-3, 2e-3):
            settings = {"train": {"learning_rate": rate, "selection": 0.1}}
            made = leave(Path(f"outputs/{seed}-{rate}"), "lora", seed, 0.6, settings=settings, variant=str(rate))
            scores = {**made.scores["last"], "selection": {"accuracy": 0.5}}
            path = Path(f"outputs/{seed}-{rate}/record.json")
            record = json.loads(path.read_text())
            record["scores"]["last"] = record["scores"]["best"] = scores
            path.write_text(json.dumps(record))
    tune = ["--tune", "train.learning_rate", "--tuning-seeds", "1000"]
    assert main(["compare", "outputs", *tune, "--format", "json"]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert set(cell) == documented("cells") | OF_TUNING
    assert all(f"`{key}`" in DOCS.read_text() for key in cell["tuned"])


def test_all_numbers_that_a_paper_needs_are_there(report):
    cell = next(each for each in report["cells"] if each["row"] == "lora")
    assert sorted(cell["by_seed"]) == ["0", "1", "2"]
    assert cell["difference"]["interval"]["low"] < cell["difference"]["interval"]["high"]
    assert cell["difference"]["interval"]["p"] <= cell["difference"]["adjusted"] < 0.05
    effect = next(each for each in report["effects"] if each["one"] == "LORA")
    assert effect["p"] == cell["difference"]["adjusted"]
    assert effect["estimate"] == pytest.approx(100 * cell["difference"]["interval"]["estimate"])
