"""A study of real runs, left alone and killed on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from molex_cli.cli import main

PLAN = """\
base: [experiment=smoke, train.max_steps=3, train.max_rows=80, train.selection=0.25, keep=none]
arms:
  lora: [method=lora]
  inverted: [method=mola_inverted]
tune: {train.learning_rate: [1e-3, 4e-3], seeds: 1}
claims: [inverted > lora]
seeds: {first: 3, most: 4}
"""
KILLS = 3


def report(folder):
    """Return what a study found; its runs lie in another folder each time."""
    found = json.loads(Path(folder, "studies/plan/study.json").read_text())
    cells = [{key: cell[key] for key in ("row", "by_seed", "tuned")} for cell in found["cells"]]
    return found["answers"], found["effects"], cells, [each for each in found["sections"] if each["title"] != "Runs"]


def test_a_study_runs_tunes_and_concludes_and_starts_nothing_twice(capsys):
    Path("plan.yaml").write_text(PLAN)
    assert main(["study", "plan.yaml", "isolate=false"]) == 0
    records = sorted(Path("outputs").glob("*/record.json"))
    assert len(records) in (4 + 6, 4 + 8)
    (answer,) = report("outputs")[0]
    assert answer in capsys.readouterr().out
    before = [path.stat().st_mtime_ns for path in records]
    assert main(["study", "plan.yaml"]) == 0
    assert [path.stat().st_mtime_ns for path in sorted(Path("outputs").glob("*/record.json"))] == before


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["hardware=pool"]], ids=["one by one", "pool"])
def test_a_study_that_is_killed_again_and_again_ends_as_one_left_alone(launcher):
    Path("plan.yaml").write_text(PLAN)
    assert main(["study", "plan.yaml", "output_dir=alone"]) == 0
    command = [sys.executable, "-m", "molex_cli", "study", "plan.yaml", "output_dir=killed", *launcher]
    for kill in range(KILLS):
        process = subprocess.Popen(command, start_new_session=True)
        while len(list(Path("killed").glob("*/events.jsonl"))) < 2 * kill + 1:
            assert process.poll() is None, "the study ended before it could be killed"
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, check=False).returncode == 0
    assert report("killed") == report("alone")
