"""From a sweep on the command line to the settings of its jobs, and those to a file and back."""

from pathlib import Path

import pytest

from molex_cli.config import command_line, other_names, overrides, run_id, schema
from molex_cli.errors import ConfigError
from molex_cli.records import flat


def jobs_of(line):
    jobs, _ = overrides.jobs(line)
    return jobs


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

    assert [value(job.experiment) for job in jobs_of(line)] == expected


def test_a_pool_is_as_large_as_its_devices_say():
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    from molex_cli.cli import train

    train.register_resolvers()
    for settings, size in ((["hardware.jobs_per_device=4"], 4), (['hardware.devices=["0","1"]'], 4)):
        line = command_line.parse(["-m", "experiment=smoke", "hardware=pool", *settings])
        _, line = overrides.jobs(line)
        assert overrides.hydra_settings(line).hydra.launcher.n_jobs == size


def test_presets_bring_sweeps_of_their_own_which_the_command_line_overrules():
    Path("mine/experiment").mkdir(parents=True)
    Path("mine/experiment/grid.yaml").write_text(
        "# @package _global_\ndefaults: [override /model: tiny_bert, _self_]\n"
        "hydra: {sweeper: {params: {method: 'lora,head', seed: '0,1'}}}\n"
    )
    line = command_line.parse(["-m", "-cd", "mine", "experiment=grid"])
    assert [job.values for job in jobs_of(line)] == [
        (f"method={method}", f"seed={seed}") for method in ("lora", "head") for seed in (0, 1)
    ]
    line = command_line.parse(["-m", "-cd", "mine", "experiment=grid", "seed=7"])
    assert [(job.values, job.experiment.seed) for job in jobs_of(line)] == [
        (("method=lora",), 7),
        (("method=head",), 7),
    ]


def test_the_line_for_hydra_is_returned_and_the_one_given_stays_as_it_was():
    given = ["experiment=smoke", "seed=3", "seed=4", "+model.config.vocab_size=99", "+train.epochs=2"]
    line = command_line.parse(given)
    _, checked = overrides.jobs(line)
    assert line.overrides == given
    assert checked.overrides == ["experiment=smoke", "seed=4", "++model.config.vocab_size=99", "train.epochs=2"]


def test_no_experiment_may_be_chosen():
    for flags in ([], ["-m"]):
        _, line = overrides.jobs(command_line.parse([*flags, "experiment=null", "model=tiny_bert"]))
        assert overrides.checked(line).model.name == "tiny_bert"


def test_problems_of_every_step_are_named_at_once():
    Path("mine/task").mkdir(parents=True)
    Path("mine/task/broken.yaml").write_text("defaults: [nothing_there]\n")
    given = ["word", "seed=0,1", "model=nowhere", "task=broken"]
    with pytest.raises(ConfigError) as caught:
        overrides.jobs(command_line.parse(["-cd", "mine", *given]))
    starts = ["an argument must be key=value", "seed must be one value", "model must be one of", "In 'task/broken'"]
    assert [problem.startswith(start) for problem, start in zip(caught.value.problems, starts, strict=True)] == [
        True
    ] * 4


def test_frozen_settings_are_the_settings(tmp_path):
    for method in ("mola_inverted", "molex_paper", "bitfit"):
        made = overrides.checked(
            command_line.parse(["experiment=smoke", f"method={method}", "train.max_grad_norm=null"])
        )
        run_id.save_settings(tmp_path / "job.json", made)
        assert run_id.load_settings(tmp_path / "job.json") == made


@pytest.mark.parametrize("flags", [["-cp", "mine"], ["--config-path", "mine"], ["--config-path=mine"]], ids=" ".join)
def test_a_relative_folder_of_settings_is_one_of_the_working_directory(flags):
    Path("mine").mkdir()
    line = command_line.parse(["seed=1", *flags, "-cn", "seed", "-m"])
    assert line.config_path == Path("mine").resolve()
    assert line.flags[-2:] == ["--config-path", str(Path("mine").resolve())]
    assert (line.config_name, line.overrides, line.multirun) == ("seed", ["seed=1"], True)


@pytest.mark.parametrize(
    ("typed", "today"),
    [
        ("train.accumulate=2", "train.gradient_accumulation_steps"),
        ("train.warmup=0.1", "train.warmup_ratio"),
        ("train.clip=1", "train.max_grad_norm"),
        ("task.protocol=head", "task.answer_mode"),
        ("max_grad_norm=1", "train.max_grad_norm"),
        ("gradient_accumulation_steps=2", "train.gradient_accumulation_steps"),
        ("num_train_epochs=1", "train.epochs"),
        ("train.lr_scheduler_type=cosine", "train.schedule"),
        ("method=lora lora_alpha=8", "method.alpha"),
        ("method=molex lora_alpha=8", "method.lora.alpha"),
        ("task.kind=choose", "multiple_choice"),
        ("task.kind=write", "generation"),
    ],
)
def test_a_setting_or_value_by_an_old_or_hugging_face_name_gets_todays_as_the_hint(typed, today):
    with pytest.raises(ConfigError) as error:
        overrides.checked(command_line.CommandLine(overrides=typed.split()))
    assert f"did you mean {today}?" in str(error.value)


def test_every_hint_at_todays_name_is_a_setting_of_some_method(experiment):
    known = set(schema.GROUPS)
    for method in ("lora", "molex", "mola", "peft/dora"):
        known |= {f"{key}" for key in flat(schema.as_data(experiment(f"method={method}")))}
    free = "method.config.init_lora_weights"  # of a section that takes any key
    for typed in (*other_names.SETTINGS, *other_names.LORA, *other_names.METHOD):
        assert (other_names.today(typed, {*known, free}) or typed).partition("=")[0] in {*known, free}, typed


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("metod=lora", "method"),
        ("tsk=glue/rte", "task"),
        ("lr=1", "train.learning_rate"),
        ("learning_rate=1", "train.learning_rate"),
        ("train.lr=1", "train.learning_rate"),
        ("epochs=1", "train.epochs"),
        ("num_train_epochs=1", "train.epochs"),
        ("batch_size=8", "train.batch_size"),
        ("per_device_train_batch_size=8", "train.batch_size"),
        ("gradient_accumulation_steps=2", "train.gradient_accumulation_steps"),
        ("gradient_acumulation_steps=2", "train.gradient_accumulation_steps"),
        ("weight_decay=0", "train.weight_decay"),
        ("warmup_ratio=0", "train.warmup_ratio"),
        ("max_seq_length=64", "train.max_length"),
        ("lr_scheduler_type=cosine", "train.schedule"),
        ("fp16=true", "hardware.precision=bf16"),
        ("train.bf16=true", "hardware.precision=bf16"),
        ("load_in_4bit=true", "hardware.base=nf4"),
        ("output_dirr=x", "output_dir"),
        ("save_total_limit=1", "keep"),
        ("lora_r=2", "method.rank"),
        ("r=2", "method.rank"),
        ("method.r=2", "method.rank"),
        ("lora_alpha=2", "method.alpha"),
        ("target_modules=q", "method.targets"),
        ("dropout=0", "method.dropout"),
        ("top_k=1", "method.top_k"),
        ("num_experts=4", "method.allocation.mean"),
        ("shape=top", "method.allocation.shape"),
        ("model_name_or_path=x", "model"),
        ("dataset_name=x", "task"),
        ("wandb=offline", "log.wandb"),
    ],
)
def test_a_key_by_another_programs_name_or_without_its_section_hints_at_ours(typed, meant):
    with pytest.raises(ConfigError) as refused:
        overrides.checked(command_line.parse([typed]))
    (line,) = refused.value.problems
    assert line == f"{typed.partition('=')[0]} is no setting; did you mean {meant}?"


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--lr=1", "--lr; did you mean train.learning_rate=...?"),
        ("--num-train-epochs=1", "--num-train-epochs; did you mean train.epochs=...?"),
        ("--seed=1", "--seed; did you mean seed=...?"),
        ("--bf16", "--bf16; did you mean hardware.precision=bf16?"),
        ("--anything", "--anything; settings are key=value"),
    ],
)
def test_a_setting_that_is_typed_as_a_flag_is_told_by_its_key(flag, says):
    with pytest.raises(ConfigError) as refused:
        command_line.parse([flag])
    assert refused.value.problems == [f"the arguments must be those that --help lists, got: {says}"]
