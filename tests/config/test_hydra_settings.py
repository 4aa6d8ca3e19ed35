"""Hydra's own settings and flags: what is taken works, all else is refused by name, from wherever it comes."""

import dataclasses
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.conf import HydraConf
from omegaconf import OmegaConf

from molex_cli.cli import main
from molex_cli.config import command_line, hydra_settings, overrides
from molex_cli.errors import ConfigError
from molex_cli.launching import optimiser
from molex_cli.metrics.base import METRICS
from molex_cli.runtime.extras import install

WORK = {"launcher", "sweeper", "searchpath", "help.header", "help.footer", "hydra_help"}


def refused(capsys, *arguments):
    assert main(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return [line.removeprefix("molex: ") for line in err.splitlines()]


def own_experiment(text):
    Path("mine/experiment").mkdir(parents=True, exist_ok=True)
    Path("mine/experiment/own.yaml").write_text(f"# @package _global_\n{text}\n")
    return ["-cd", "mine", "experiment=own"]


@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["one run", "sweep"])
def test_every_setting_of_hydras_schema_that_does_nothing_is_refused(flags, capsys):
    known = {each.name for each in dataclasses.fields(HydraConf)} - {"defaults"} - WORK
    given = ['+hydra.sweeper.params.seed="1,2"'] + [f"++hydra.{name}=1" for name in sorted(known)]
    given += ["hydra/callbacks=x", "hydra/job_logging=default", "hydra/hydra_logging=default", "hydra/output=default"]
    given += ["hydra/env=default", "hydra.sweeper.max_batch_size=2", "+hydra.anything=1"]
    lines = refused(capsys, *flags, *given)
    assert len(lines) == len(given)
    for text, line in zip(given, lines, strict=True):
        assert re.match(rf"{re.escape(text.partition('=')[0].lstrip('+'))} must be left out, got \S+: molex does", line)


@pytest.mark.parametrize(
    ("given", "way_out"),
    [
        ("hydra.run.dir=x", "output_dir=DIR"),
        ("hydra.sweep.dir=x", "output_dir=DIR"),
        ("hydra.sweep.subdir=x", "output_dir=DIR"),
        ("hydra.mode=MULTIRUN", "-m sweeps"),
        ("hydra.job.chdir=true", "output_dir=DIR"),
        ("hydra.job.name=x", "hydra.launcher.name"),
        ("+hydra.job.env_set.SOME=1", "NAME=value molex train"),
        ("hydra.job.env_copy=[HOME]", "a job has all variables"),
        ("+hydra.callbacks.mine._target_=mine.Callback", "events.jsonl"),
        ("hydra.verbose=true", "log.every"),
        ("hydra.output_subdir=.hydra", "record.json"),
    ],
)
def test_the_refusal_of_a_setting_names_the_way_out(given, way_out, capsys):
    (line,) = refused(capsys, given)
    assert way_out in line


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("hydra: {run: {dir: elsewhere}}", "hydra.run.dir"),
        ("hydra: {job: {chdir: true}}", "hydra.job.chdir"),
        ("hydra: {job: {env_set: {SOME: '1'}}}", "hydra.job.env_set.SOME"),
        ("hydra: {callbacks: {mine: {_target_: mine.Callback}}}", "hydra.callbacks.mine._target_"),
        ("hydra: {verbose: true}", "hydra.verbose"),
        ("hydra: {sweeper: {max_batch_size: 2}}", "hydra.sweeper.max_batch_size"),
        ("defaults: [override /hydra/job_logging: none, _self_]", "hydra.job_logging"),
    ],
)
def test_a_setting_in_a_file_of_ones_own_is_refused_too(text, key):
    given = own_experiment(text)
    with pytest.raises(ConfigError) as refusal:  # before anything runs
        overrides.jobs(command_line.parse(given))
    assert refusal.value.problems[0].startswith(f"{key} must be left out, got ")


def test_a_file_that_leaves_hydra_alone_passes_and_so_does_a_first_file_of_ones_own(capsys):
    overrides.jobs(command_line.parse(own_experiment("seed: 3")))
    Path("mine/first.yaml").write_text("defaults: [config, override model: tiny_bert, _self_]\nseed: 4\n")
    for name in ("first", "first.yaml"):
        (job,), _ = overrides.jobs(command_line.parse(["-cd", "mine", "-cn", name, "method=head"]))
        assert (job.experiment.seed, job.experiment.model.name) == (4, "tiny_bert")
        assert main(["train", "-cd", "mine", "-cn", name, "--cfg", "job", "-p", "seed"]) == 0
        assert capsys.readouterr().out == "4\n"


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=3"], "launcher.n_jobs", 3),
        (["+hydra.launcher.anything=3"], "launcher.anything", 3),
        (["hydra/sweeper=optuna", "hydra.sweeper.n_trials=7"], "sweeper.n_trials", 7),
        (["hydra/sweeper=optuna", "hydra/sweeper/sampler=random"], "sweeper.sampler.seed", None),
        (["hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=3"], "sweeper.sampler.seed", 3),
        (["hydra.help.header=mine"], "help.header", "mine"),
    ],
)
def test_the_settings_that_work_arrive(given, key, value):
    for plugin in ("joblib_launcher", "optuna_sweeper"):
        pytest.importorskip(f"hydra_plugins.hydra_{plugin}")
    _, line = overrides.jobs(command_line.parse(["-m", "experiment=smoke", *given]))
    assert OmegaConf.select(overrides.hydra_settings(line).hydra, key, throw_on_missing=True) == value


def test_what_hydra_itself_would_refuse_is_one_line(capsys):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    smoke = ["-m", "experiment=smoke"]
    for given, says in {
        "+hydra.launcher.anything=1": "hydra.launcher must fit the launcher, got: ",
        "hydra.launcher.anything=1": "Could not override 'hydra.launcher.anything'",
        "hydra.launcher.n_jobs=1,2": "hydra.launcher.n_jobs must be one value, got 1,2",
        "hydra/launcher=basic,joblib": "hydra/launcher must be one value, got basic,joblib",
        "~hydra/launcher": "hydra/launcher cannot be deleted",
    }.items():
        (line,) = refused(capsys, *smoke, given)
        assert line.startswith(says)
    (line,) = refused(capsys, *smoke, "hydra/launcher=joblib", "hydra.launcher.n_jobs=many")
    assert "'many' of type 'str' could not be converted to Integer" in line


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("-m --cfg job", "--cfg must go without -m, got both"),
        ("-m --info", "--info must go without -m, got both"),
        ("-r --cfg job", "--cfg must go without --run, got both"),
        ("-r -m", "--run must go without --multirun, got both"),
        ("--info --cfg job", "--cfg must be given alone, got --info too"),
        ("--resolve", "--resolve must go with --cfg, got it alone"),
        ("--package train", "--package must go with --cfg, got train alone"),
        ("--cfg job --package nothing.here", "--package must be a part of the settings, got nothing.here"),
        ("--cfg=job -p nothing.here", "--package must be a part of the settings, got nothing.here"),
        ("--shell-completion", "--shell-completion must follow molex itself"),
        ("-sc install=bash", "--shell-completion must follow molex itself"),
        ("--experimental-rerun x", "--experimental-rerun must be left out, got x"),
        ("--config-path=empty --cfg job", "--config-path must lead to a file config.yaml, got none in"),
        ("-cd empty -cn nothing", "--config-name must lead to a file nothing.yaml, got none in"),
        ("-cp nowhere", "--config-path must be a folder, got nowhere"),
        ("--cfg all_of_it", "--cfg/-c must be one of job, hydra, all, got all_of_it"),
        ("model@other=tiny_bert", "model must stay where it is, got model@other"),
    ],
)
def test_a_flag_that_would_do_nothing_or_end_in_a_traceback_is_refused(given, says, capsys):
    Path("empty").mkdir()
    (line,) = refused(capsys, *given.split())
    assert line.startswith(says)
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("given", "shows"),
    [
        ("~experiment --cfg job -p seed", "0"),
        ("--cfg=job -p train.epochs train.epochs=2", "2.0"),
        ("-cjob -p seed", "0"),
        ("--cfg hydra -p hydra.job.chdir", "false"),
        ("--cfg job --resolve -p log.every", "1"),
        ("--info searchpath", "file://"),
        ("--info defaults model=tiny_bert", "model/tiny_bert"),
        ("--hydra-help", "--config-dir"),
        ("--help -m", "--multirun"),
        ("--help hydra.help.header=mine hydra.help.footer=yours", "mine\n\nusage: molex train"),
    ],
)
def test_a_flag_that_shows_something_shows_it(given, shows, capsys):
    try:
        assert main(["train", *given.split()]) == 0
    except SystemExit as end:
        assert not end.code  # noqa: PT017
    assert shows.lower() in capsys.readouterr().out.lower()
    assert not Path("outputs").exists()


def test_an_optimiser_seeks_what_the_metric_calls_better(monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    low = dataclasses.replace(METRICS["accuracy"], name="error_rate", higher_is_better=False)
    monkeypatch.setitem(METRICS, "error_rate", low)
    search = ["-m", "experiment=smoke", "hydra/sweeper=optuna", "seed=range(0,3)", "method.rank=choice(2,4)"]

    def asked(metric, *given):
        _, line = overrides.jobs(command_line.parse([*search, "method=lora", *given]))
        return optimiser.with_search(line, METRICS[metric], overrides.hydra_settings(line).hydra.sweeper)

    for metric, better, other in (("accuracy", "maximize", "minimize"), ("error_rate", "minimize", "maximize")):
        for given in ([], [f"hydra.sweeper.direction={better}"]):
            assert asked(metric, *given).overrides[-2:] == [
                f"hydra.sweeper.direction={better}",
                "hydra.sweeper.n_trials=20",
            ]
        with pytest.raises(ConfigError, match=f"direction must be {better}, what {metric} asks for, got {other}"):
            asked(metric, f"hydra.sweeper.direction={other}")
    # Optuna draws the end of a range too, and its grid leaves the last value out.
    assert "seed=range(0,2,1)" in asked("accuracy").overrides
    assert "seed=choice(0,1,2)" in asked("accuracy", "hydra/sweeper/sampler=grid").overrides
    for given in ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_jobs=0", "hydra.sweeper.max_failure_rate=2"):
        with pytest.raises(ConfigError, match=r"hydra.sweeper.\w+ must be "):
            asked("accuracy", given)


@pytest.mark.parametrize(("choice", "extra"), [("hydra/launcher=ray", "ray"), ("hydra/launcher=ray_aws", "ray")])
def test_a_launcher_that_is_not_installed_is_named_with_its_install_line(choice, extra, capsys):
    if find_spec("hydra_plugins.hydra_ray_launcher"):
        pytest.skip("Hydra's plugin for Ray is installed")
    (line,) = refused(capsys, "-m", "experiment=smoke", choice, "seed=0,1")
    assert line == f"{choice} is a plugin of Hydra that is not installed; {install(extra)}"


def test_each_shipped_launcher_and_sweeper_has_its_extra():
    for name, extra in hydra_settings.PLUGINS.items():
        for kind in ("launcher", "sweeper"):
            line = hydra_settings.not_installed(
                f"In 'config': Could not find 'hydra/{kind}/{name}'\n\nAvailable options"
            )
            assert line == f"hydra/{kind}={name} is a plugin of Hydra that is not installed; {install(extra)}"
    assert hydra_settings.not_installed("Could not find 'hydra/launcher/mine'") is None
    assert hydra_settings.not_installed("Could not find 'method/ray'") is None
