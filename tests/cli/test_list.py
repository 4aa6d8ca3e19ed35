"""`molex list`: each choice is what Hydra makes of it, without Hydra composing all for each."""

import pytest

from molex_cli.cli import main
from molex_cli.config import choices, command_line
from molex_cli.config.schema import as_data

SAMPLE = {
    "method": ["bitfit", "molex_paper", "peft/dora"],
    "model": ["minilm", "tiny_gemma"],
    "task": ["builtin/nli", "continual/science_qa", "e2e", "instruct/rte"],
}


def assert_as_hydra_makes_them(group: str, names: list[str]) -> None:
    for name, found in choices.experiments(group, names, ["data_dir=null"]):
        composed = choices._composed(group, name, ["data_dir=null"])
        if isinstance(composed, Exception):
            assert str(found) == str(composed)
        else:
            assert found == composed
            assert as_data(found) == as_data(composed)


@pytest.mark.parametrize("group", SAMPLE)
def test_a_choice_is_what_hydra_makes_of_it(group):
    assert_as_hydra_makes_them(group, SAMPLE[group])


@pytest.mark.slow
@pytest.mark.parametrize("group", SAMPLE)
def test_every_choice_is_what_hydra_makes_of_it(group):
    assert_as_hydra_makes_them(group, command_line.options(group))


def test_the_files_of_simple_choices_are_laid_over_what_is_shared(monkeypatch):
    monkeypatch.setattr(choices, "_composed", lambda *_: pytest.fail("Hydra composed a simple choice"))
    names = [name for name in command_line.options("method") if not name.startswith("peft/")]
    assert dict(choices.experiments("method", names, [])).keys() == set(names)


def test_a_setting_of_the_choice_itself_is_in_its_line_and_a_misfit_in_that_of_the_choice(capsys):
    assert main(["list", "methods", "method.learning_rate=0.125"]) == 0
    assert capsys.readouterr().out.count("0.125") > 10
    assert main(["list", "models", "method.top_k=1"]) == 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(choices, "_section", lambda *_: (_ for _ in ()).throw(ValueError))
        patched.setattr(choices, "_composed", lambda *_: choices.ConfigError("x must be y, got z"))
        assert main(["list", "models"]) == 0
    assert "cannot be composed: x must be y, got z" in capsys.readouterr().out
