"""The studies whose verdicts docs/results.md has can be run again as they are."""

from pathlib import Path

import pytest

from molex_cli.config import command_line, schema
from molex_cli.study import definition
from molex_cli.study.arms import Composer

STUDIES = sorted((Path(__file__).resolve().parents[2] / "docs/studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_arm_of_a_study_of_the_results_is_composed(path):
    study = definition.read(path)
    schema.register()
    composer = Composer(study.base, command_line.CommandLine(overrides=[]))
    arms = {name: composer.typed(*own) for name, own in study.arms.items()}
    assert len({arm.task.name for arm in arms.values()}) == 1
    assert {arm.model.name for arm in arms.values()} == {"minilm"}
    assert {"inverted", "top"} < set(arms)
