"""A setting that is text takes texts alone: what YAML or Hydra reads as another value is refused, never converted."""

from pathlib import Path

import pytest

from molex_cli.cli import main

HEAD = "defaults: [/schema/task@_here_, _self_]\nname: own\n"
FILES = "files: {train: x.csv, validation: x.csv}\n"
OWN = ["task=files", "task.files.train=x.csv", "task.files.validation=x.csv", "task.columns=[text]"]


def refused(capsys, *arguments):
    assert main([*arguments]) == 2
    shown, err = capsys.readouterr()
    assert (shown, Path("outputs").exists()) == ("", False)
    return err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("labels: [no, yes]", "task.labels must be texts, got no (YAML's false); put it in quotes"),
        ("labels: [y, true]", "task.labels must be texts, got true; put it in quotes"),
        ("labels: [007, 1]", "task.labels must be texts, got 007 (YAML's 7); put it in quotes"),
        ("labels: [null, a]", "task.labels must be texts, got null; put it in quotes"),
        ("labels: [[a], b]", "task.labels must be a list of single values, got [['a'], 'b']"),
        ("columns: [1e3, 1.0]", "task.columns must be texts, got 1e3 (YAML's 1000.0); put it in quotes"),
        ("where: {lang: no}", "task.where.lang must be text, got no (YAML's false); put it in quotes"),
        ("where: {no: a}", "task.where must have texts as keys, got no (YAML's false); put it in quotes"),
        ("label: off", "task.label must be text, got off (YAML's false); put it in quotes"),
        ("language: {prompt: 12:30}", "task.language.prompt must be text, got 12:30 (YAML's 750); put it in quotes"),
        ("hub: {path: 1_000}", "task.hub.path must be text, got 1_000 (YAML's 1000); put it in quotes"),
    ],
)
def test_what_yaml_reads_as_no_text_is_refused_as_it_is_written(settings, said, capsys):
    Path("mine/task").mkdir(parents=True)
    columns = "" if settings.startswith("columns") else "columns: [text]\n"
    Path("mine/task/own.yaml").write_text(f"{HEAD}{FILES}{columns}{settings}\n")
    assert said in refused(capsys, "train", "-cd", "mine", "experiment=smoke", "task=own")


def test_texts_in_quotes_and_plain_whole_numbers_are_taken_as_they_are_written():
    from molex_cli.config import command_line, overrides

    Path("mine/task").mkdir(parents=True)
    Path("mine/task/own.yaml").write_text(HEAD + FILES + "columns: ['1e3']\nlabels: [0, 'no', \"1.0\"]\n")
    task = overrides.checked(command_line.parse(["-cd", "mine", "experiment=smoke", "task=own"])).task
    assert (task.columns, task.labels) == (["1e3"], ["0", "no", "1.0"])


def test_a_stage_and_an_experiment_are_held_to_the_same(capsys):
    Path("mine/experiment").mkdir(parents=True)
    Path("mine/experiment/own.yaml").write_text("# @package _global_\nlog: {tags: [a, on]}\n")
    said = refused(capsys, "train", "-cd", "mine", "experiment=own")
    assert "log.tags must be texts, got on (YAML's true); put it in quotes" in said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("task.labels=[true,false]", "task.labels must be texts, got [true,false] (true is a truth value); put it in"),
        ("task.columns=[1e3,1.0]", "task.columns must be texts, got [1e3,1.0] (1000.0 is a number); put it in quotes"),
        ("task.where.lang=false", "task.where.lang must be text, got false (false is a truth value); put it in"),
        ("output_dir=1e3", "output_dir must be text, got 1e3 (1000.0 is a number); put it in quotes"),
        ("log.project=1.0", "log.project must be text, got 1.0"),
    ],
)
def test_what_the_command_line_reads_as_no_text_is_refused(setting, said, capsys):
    assert said in refused(capsys, "train", "experiment=smoke", *OWN, setting)


def test_no_and_numbers_in_quotes_are_texts_on_the_command_line():
    from molex_cli.config import command_line, overrides

    given = ["task.labels=[no,yes,1,'1.0']", "task.where.lang=no", "output_dir='1e3'"]
    made = overrides.checked(command_line.parse(["experiment=smoke", *OWN, *given]))
    assert (made.task.labels, made.task.where) == (["no", "yes", "1", "1.0"], {"lang": "no"})
    assert made.output_dir == "1e3"


@pytest.mark.parametrize(("setting", "said"), [("run=1e3", "run must be text"), ("map={a: true}", "map must be texts")])
def test_the_settings_of_a_command_of_its_own_are_held_to_the_same(setting, said, capsys):
    assert said in refused(capsys, "eval", "run=somewhere", setting)


STRANGE = {
    "broken": b"a: [",
    "two documents": b"labels: [0]\n---\nlabels: [1]\n",
    "merge key": b"a: &a {b: 1}\nc: {<<: *a}\n",
    "latin-1": "labels: [é]".encode("latin-1"),
    "no variable": b"labels:\n- ${oc.env:NO_SUCH}\n- ${oc.env:NO_SUCH}\n",
    "a folder": None,
}


@pytest.mark.parametrize("content", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("labels", ["[0, 1]", "[007, 1]"])
def test_files_that_nothing_chose_do_not_matter(content, labels, capsys):
    from molex_cli.config import command_line, overrides

    Path("mine/task").mkdir(parents=True)
    Path("mine/task/own.yaml").write_text(f"{HEAD}{FILES}columns: [text]\nlabels: {labels}\n")
    if content is None:
        Path("mine/another.yaml").mkdir()
    else:
        Path("mine/another.yaml").write_bytes(content)
    given = ["-cd", "mine", "experiment=smoke", "task=own"]
    if labels == "[0, 1]":
        assert overrides.checked(command_line.parse(given)).task.labels == ["0", "1"]
    else:
        assert "task.labels must be texts, got 007 (YAML's 7)" in refused(capsys, "train", *given)
