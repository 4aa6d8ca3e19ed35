"""Settings take folders, files and W&B's entity from environment variables, and nothing else; never a secret."""

import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from molex_cli.cli import main
from molex_cli.config import command_line, overrides
from molex_cli.errors import ConfigError

SMOKE = ["experiment=smoke", "method=head"]
SECRET = "s3cr3t-of-a-person"


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    monkeypatch.setenv("PLACE", "a place")
    Path("mine/task").mkdir(parents=True)


def written(path, content):
    Path("mine", path).write_text(content)


def refused(*arguments):
    with pytest.raises(ConfigError) as caught:
        overrides.jobs(command_line.parse(["-cd", "mine", *SMOKE, *arguments]))
    assert SECRET not in str(caught.value)
    (problem,) = caught.value.problems
    return problem


SECRETS = {
    "a text": ["task.name=${oc.env:SOME_API_KEY}"],
    "a part of a text": ["task.name=my-${oc.env:SOME_API_KEY}"],
    "a folder": ["output_dir=${oc.env:SOME_API_KEY}"],
    "the entity": ["log.entity=${oc.env:SOME_API_KEY}"],
    "a default": ['task.name="${oc.env:NO_SUCH,${oc.env:SOME_API_KEY}}"'],
    "a list": ["log.tags=[a,'${oc.env:SOME_API_KEY}']"],
    "free form": ["model.config.hidden_act=${oc.env:SOME_API_KEY}"],
    "lower case": ["data_dir=${oc.env:some_api_key,x}"],
    "a number": ["seed=${oc.env:SOME_API_KEY}"],
}


@pytest.mark.parametrize("arguments", SECRETS.values(), ids=SECRETS)
def test_a_secret_is_refused_wherever_it_stands(arguments):
    assert "must hold no secret, got the variable" in refused(*arguments)


@pytest.mark.parametrize("name", ["DB_PASSWORD", "my_credentials"])
def test_a_variable_looks_secret_by_its_name(name):
    assert f"data_dir must hold no secret, got the variable {name}" in refused(f"data_dir=${{oc.env:{name}}}")


OTHERS = {
    "a text": ("task.name", "task.name=${oc.env:PLACE}"),
    "a number": ("train.epochs", "train.epochs=${oc.env:PLACE,1}"),
    "a section": ("train", "train=${oc.env:PLACE}"),
    "a tag": ("log.tags[0]", "log.tags=['${oc.env:PLACE}']"),
    "the project": ("log.project", "log.project=${oc.env:PLACE}"),
    "a hub": ("model.hub", "model.hub=${oc.env:PLACE}"),
}


@pytest.mark.parametrize(("key", "argument"), OTHERS.values(), ids=OTHERS)
def test_other_variables_are_for_places_alone(key, argument):
    assert refused(argument).startswith(f"{key} must be written out, got the variable PLACE; only data_dir, ")


def test_places_and_the_entity_may_name_variables():
    places = ["data_dir", "output_dir", "cache_dir", "task.files.train", "task.files.validation", "task.official.test"]
    given = [f"{key}=${{oc.env:PLACE}}/x" for key in places]
    given += ["log.entity=${oc.env:PLACE}", "model.random=false", "model.folder=${output_dir}"]
    given += ["log.project=${oc.select:model.name}"]
    made = overrides.checked(command_line.parse([*SMOKE, *given]))
    assert {made.data_dir, made.output_dir, made.cache_dir, made.model.folder} == {"a place/x"}
    assert (made.task.files.train, made.task.official.test, made.log.entity) == ("a place/x", "a place/x", "a place")
    assert made.log.project == made.model.name


OWN = "defaults: [files, _self_]\ncolumns: [a]\nname: "
FILES = {
    "a text": f"{OWN}${{oc.env:SOME_API_KEY}}\n",
    "a name that is put together": f"{OWN}${{oc.env:${{task.label}}_API_KEY}}\nlabel: SOME\n",
    "a resolver that is put together": f"{OWN}${{oc.${{task.label}}:SOME_API_KEY}}\nlabel: env\n",
    "decoded": f"{OWN}${{oc.decode:'${{oc.env:SOME_API_KEY}}'}}\n",
    "another setting": f"{OWN}${{cache_dir}}\n",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_of_settings_hides_no_secret(content):
    written("task/own.yaml", content)
    more = ["cache_dir=${oc.env:SOME_API_KEY}"] if "cache_dir" in content else []
    assert "must hold no secret, got the variable SOME_API_KEY" in refused("task=own", *more)


SWEEP = """# @package _global_
hydra:
  sweeper:
    params:
      {key}: ${{oc.env:{name}}}
"""


@pytest.mark.parametrize(("name", "says"), [("SOME_API_KEY", "must hold no secret"), ("PLACE", "must be written out")])
def test_a_preset_of_a_sweep_is_no_way_around(name, says):
    Path("mine/experiment").mkdir()
    written("experiment/own.yaml", SWEEP.format(key="log.project", name=name))
    assert f"log.project {says}" in refused("experiment=own", "-m")


def test_no_command_shows_or_writes_a_secret(capsys):
    argument = "task.name=${oc.env:SOME_API_KEY}"
    launcher = ["hardware=pool", "seed=0,1", "-m", "hydra.launcher.pre_dispatch=${oc.env:SOME_API_KEY}"]
    for command in (
        ["train", *SMOKE, argument],
        ["train", *SMOKE, *launcher],
        ["train", *SMOKE, "--cfg", "job", "--resolve", argument],
        ["plan", *SMOKE, argument],
    ):
        assert main(command) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "must hold no secret" in err
        assert SECRET not in err
    assert SECRET not in "".join(path.read_text() for path in Path().rglob("*.*") if path.is_file())


def test_other_programs_keep_their_resolver():
    overrides.checked(command_line.parse(SMOKE))
    assert OmegaConf.create({"name": "${oc.env:SOME_API_KEY}"}).name == os.environ["SOME_API_KEY"]
