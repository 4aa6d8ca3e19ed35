"""What a sweep's syntax stands for: all that is typed runs, or one line says why not."""

import re
from pathlib import Path

import pytest

from molex_cli.cli import main
from molex_cli.config import command_line, overrides

SMOKE = ("-m", "experiment=smoke")
OPTIMISER = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=1")


def values(*arguments):
    found, _ = overrides.jobs(command_line.parse([*SMOKE, *arguments]))
    return [job.values for job in found]


def own_file(group, name, text):
    path = Path("mine") / group / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def own_lora():
    own_file("method", "lora_r2", "defaults: [/schema/method/lora@_here_, _self_]\nname: lora_r2\nrank: 2\n")


def refused(capsys, *arguments):
    assert main(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return [line.removeprefix("molex: ") for line in err.splitlines()]


@pytest.mark.parametrize("where", [["-cd", "mine"], ["hydra.searchpath=[mine]"], ["hydra.searchpath=[file://mine]"]])
def test_a_glob_matches_the_files_of_every_folder(where):
    own_lora()
    assert values(*where, "method=glob(lora*)") == [("method=lora",), ("method=lora_r2",)]
    assert values(*where, "method=glob(*,exclude=[mix*,mol*,peft*])")[-2:] == [("method=lora",), ("method=lora_r2",)]


def test_a_search_path_in_a_file_of_ones_own_counts_too():
    own_lora()
    shipped = command_line.conf_dir()
    Path("first").mkdir()
    Path("first/config.yaml").write_text(
        f"hydra: {{searchpath: ['file://{shipped}', mine]}}\n"
        "defaults: [schema_experiment, {model: tiny_bert}, {method: lora}, {task: builtin/nli}, {hardware: cpu}, "
        "{experiment: null}, _self_]\n"
    )
    assert values("-cp", "first", "method=glob(lora*)") == [("method=lora",), ("method=lora_r2",)]


def test_an_optimiser_and_the_help_and_completion_see_ones_own_files_too(capsys, monkeypatch):
    own_lora()
    _, line = overrides.jobs(command_line.parse([*SMOKE, *OPTIMISER, "-cd", "mine", "method=glob(lora*)"]))
    assert 'method=choice("lora","lora_r2")' in line.overrides
    with pytest.raises(SystemExit):
        main(["train", "-cd", "mine", "--help"])
    assert "lora_r2" in capsys.readouterr().out
    monkeypatch.setenv("COMP_LINE", "molex train -cd mine method=lora_")
    main(["-sc", "query=bash"])
    assert capsys.readouterr().out.split() == ["method=lora_r2"]


def test_a_file_of_ones_own_that_a_shipped_one_hides_is_refused(capsys):
    own_file("method", "lora", "defaults: [/schema/method/lora@_here_, _self_]\nrank: 2\n")
    (line,) = refused(capsys, "-cd", "mine", "method=lora")
    assert re.match(r"method=lora must be one file, got .*mine/method/lora.yaml behind .*; rename yours", line)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("method=glob(my_*)", r"method must have at least one value, got glob\(my_\*\), .*; choose from bitfit"),
        ("seed=glob(*)", r"seed must have at least one value, got glob\(\*\)"),
        ("seed=range(3,3)", r"seed must have at least one value, got range\(3,3\)"),
        ("seed=range(3,0)", r"seed must have at least one value, got range\(3,0\)"),
        ("seed=range(1,3,0)", r"seed must be a range with a step other than 0, got range\(1,3,0\)"),
        ("seed=range(0.5,3,0)", r"seed must be a range with a step other than 0"),
        ("seed=choice(1,2,1)", r"seed must have each value once, got 1 twice in choice\(1,2,1\)"),
        ("method=lora,lora", r"method must have each value once, got lora twice in lora,lora"),
        ("train.learning_rate=1e-3,0.001", r"train.learning_rate must have each value once, got 0.001 twice"),
        ("seed=choice(1,choice(2,3))", r"seed must be one list of values, got choice\(1,choice\(2,3\)\)"),
        ("seed=1,range(2,4)", r"seed must be one list of values, got 1,range\(2,4\)"),
        ("train.learning_rate=interval(1e-4,1e-3)", r"train.learning_rate must .* add hydra/sweeper=optuna"),
        ("train.learning_rate=tag(log,interval(1e-4,1e-3))", r"train.learning_rate must .* add hydra/sweeper=optuna"),
        ("method=lora,[lora]", r"method must be one of the files in conf/method, got \['lora'\]"),
        ("optimizer=adam,sgd", r"optimizer is no setting;"),
        ("method/lora=a,b", r"method/lora is no setting;"),
        ("method@other=lora,head", r"method must stay where it is, got method@other; leave @other out"),
        ("seed=range(0,1,0.5)", r"seed must be a whole number, got 0.5"),
    ],
)  # fmt: skip
def test_a_sweep_that_is_none_is_refused_by_name(given, says, capsys):
    lines = refused(capsys, *SMOKE, given)
    assert any(re.match(says, line) for line in lines), lines


def test_an_interval_that_no_optimiser_can_draw_from_is_refused(capsys):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    search = (*SMOKE, *OPTIMISER, "method=lora")
    (line,) = refused(capsys, *search, "train.learning_rate=interval(1e-2,1e-3)")
    assert line.startswith("train.learning_rate must be an interval from a lower to a higher number, got interval(")
    assert line.endswith("; write interval(low,high)")
    (line,) = refused(capsys, *search, "method.rank=interval(2,8)")
    assert line.endswith("write method.rank=int(interval(2,8))")
    assert len(values(*OPTIMISER, "method=lora", "method.rank=int(interval(2,8))")) == 2


def test_a_range_has_the_numbers_that_one_would_type():
    assert values("train.learning_rate=range(0.1,0.8,0.1)") == [
        (f"train.learning_rate=0.{tenth}",) for tenth in range(1, 8)
    ]
    assert sorted(values("train.learning_rate=shuffle(range(0.1,0.5,0.1))"))[2] == ("train.learning_rate=0.3",)


def test_a_files_name_may_hold_a_comma():
    own_file("method", "a,b", "defaults: [/schema/method/lora@_here_, _self_]\nname: a_b\n")
    assert values("-cd", "mine", 'method=lora,"a,b"') == [("method=lora",), ("method=a,b",)]


@pytest.mark.parametrize("flags", [[], ["hydra/sweeper=optuna"]], ids=str)
def test_a_sweep_that_is_asked_for_without_m_is_refused(flags, capsys):
    """Not run as one run of its defaults."""
    if flags:
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    given = flags or ["experiment=ablation/allocation_vs_routing"]
    (line,) = refused(capsys, "model=tiny_bert", *given)
    assert re.match(r"hydra(/sweeper|\.sweeper\.params) must go with .*, got one run.*; add -m$", line)
    assert not Path("outputs").exists()


def test_the_jobs_of_a_sweep_share_what_runs_them(capsys):
    """The launcher, and the sweeps that an experiment brings: those of the first would be taken for all."""
    own_file("experiment", "seeds", "# @package _global_\nhydra: {sweeper: {params: {seed: '0,1'}}}\n")
    own_file("experiment", "rates", "# @package _global_\nhydra: {sweeper: {params: {train.learning_rate: '1e-3'}}}\n")
    line = refused(capsys, "-m", "-cd", "mine", "experiment=seeds,rates")[0]
    assert re.match(r"hydra.sweeper must be the same for all jobs of a sweep, got another one for rates than", line)


def test_what_an_experiment_sweeps_over_is_checked_as_what_is_typed(capsys):
    for number, (swept, says) in enumerate(
        {
            "seed: 'range(3,3)'": "seed must have at least one value, got range(3,3)",
            "seed: 'interval(0,1)'": "seed must be a list of values, got interval(0,1)",
            "seeds: '0,1'": "seeds is no setting",
            "seed: [0, 1]": "seed must be a whole number, got [0, 1]",
        }.items()
    ):
        own_file("experiment", f"e{number}", f"# @package _global_\nhydra: {{sweeper: {{params: {{{swept}}}}}}}\n")
        lines = refused(capsys, "-m", "-cd", "mine", f"experiment=e{number}")
        assert any(line.startswith(says) for line in lines), lines
