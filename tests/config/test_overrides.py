"""From a sweep on the command line to the settings of its jobs, and those to a file and back."""

from pathlib import Path

import pytest

from molex_cli.config import command_line, overrides, run_id


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ("method=glob(b*)", ["bitfit"]),
        ("seed=range(0,3)", [0, 1, 2]),
        ("train.max_grad_norm=null,1.0", [None, 1.0]),
        ("log.tags=[a],[b,c]", [["a"], ["b", "c"]]),
        ("seed=choice(3,1)", [3, 1]),
    ],
)
def test_every_kind_of_sweep_is_expanded(sweep, expected):
    line = command_line.parse(["-m", "experiment=smoke", sweep])
    key = sweep.partition("=")[0]

    def value(settings):
        for part in key.split("."):
            settings = getattr(settings, part)
        return settings.name if key == "method" else settings

    assert [value(job.experiment) for job in overrides.jobs(line)] == expected


def test_a_pool_is_as_large_as_its_devices_say():
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    from molex_cli.cli import train

    train.register_resolvers()
    for settings, size in ((["hardware.jobs_per_device=4"], 4), (['hardware.devices=["0","1"]'], 4)):
        line = command_line.parse(["-m", "experiment=smoke", "hardware=pool", *settings])
        overrides.jobs(line)
        assert overrides.hydra_settings(line).hydra.launcher.n_jobs == size


def test_presets_bring_sweeps_of_their_own_which_the_command_line_overrules():
    Path("mine/experiment").mkdir(parents=True)
    Path("mine/experiment/grid.yaml").write_text(
        "# @package _global_\ndefaults: [override /model: tiny_bert, _self_]\n"
        "hydra: {sweeper: {params: {method: 'lora,head', seed: '0,1'}}}\n"
    )
    line = command_line.parse(["-m", "-cd", "mine", "experiment=grid"])
    assert [job.values for job in overrides.jobs(line)] == [
        (f"method={method}", f"seed={seed}") for method in ("lora", "head") for seed in (0, 1)
    ]
    line = command_line.parse(["-m", "-cd", "mine", "experiment=grid", "seed=7"])
    assert [(job.values, job.experiment.seed) for job in overrides.jobs(line)] == [
        (("method=lora",), 7),
        (("method=head",), 7),
    ]


def test_frozen_settings_are_the_settings(tmp_path):
    for method in ("mola_inverted", "molex_paper", "bitfit"):
        made = overrides.checked(
            command_line.parse(["experiment=smoke", f"method={method}", "train.max_grad_norm=null"])
        )
        run_id.save_settings(tmp_path / "job.json", made)
        assert run_id.load_settings(tmp_path / "job.json") == made
