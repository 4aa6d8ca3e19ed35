"""Records to an honest table."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.made_records import leave, outputs, table_of

from molex_cli import records
from molex_cli.cli import main
from molex_cli.compare.confounds import confounds
from molex_cli.compare.loading import load
from molex_cli.errors import ConfigError, RecordError


def test_means_are_over_seeds_and_n_is_in_the_cell():
    table = table_of(outputs(lora=0.6, mola=0.7))
    cell = table.cells["lora", "rte"]
    values = [run.score("last") for run in cell.runs]
    assert cell.mean == pytest.approx(np.mean(values))
    assert cell.deviation == pytest.approx(np.std(values, ddof=1))
    assert len(cell.by_seed) == 3
    assert cell.notes == []


def test_the_best_is_found_and_what_is_not_significantly_different_from_it_is_underlined():
    table = table_of(outputs(lora=0.6, mola=0.9, molex=0.895))
    cells = table.column("rte")
    assert [row for row, cell in cells.items() if cell.is_best] == ["mola"]
    assert [row for row, cell in cells.items() if cell.is_close] == ["molex"]
    found = cells["lora"].difference
    assert found.over == "seeds and examples"
    assert found.interval.high < 0
    assert found.adjusted < 0.05
    assert found.permutation == 0.25  # three seeds cannot say more
    assert found.mcnemar is None  # it would ignore that seeds differ
    assert found.variance == "pooled"


def test_against_one_arm_every_other_is_compared_with_it():
    table = table_of(outputs(lora=0.6, mola=0.9, molex=0.89), against="lora")
    differences = {row: cell.difference for row, cell in table.column("rte").items()}
    assert differences["lora"] is None
    assert differences["mola"].interval.estimate > 0.2
    assert not any(cell.is_close for cell in table.cells.values())
    with pytest.raises(ConfigError, match="--against must be one of the rows, got lra; did you mean lora"):
        table_of(Path("outputs"), against="lra")


def test_few_seeds_are_provisional_and_degenerate_ones_are_best_only_alone():
    outputs(lora=0.6)
    for seed in (0, 1):
        leave(Path(f"outputs/mola-s{seed}"), "mola", seed, 0.9, degenerate=["all predictions are the same"])
    table = table_of(Path("outputs"))
    assert table.cells["mola", "rte"].notes == ["provisional", "degenerate", "collapsed"]
    assert table.cells["lora", "rte"].is_best


def test_runs_that_differ_in_more_than_the_seed_are_never_averaged():
    outputs(lora=0.6)
    other = {"method": {"name": "lora", "published": False, "learning_rate": 5e-3}}
    for seed in (0, 1, 2):
        leave(Path(f"outputs/fast-s{seed}"), "lora", seed, 0.8, settings=other, variant="lora-fast")
    table = table_of(Path("outputs"))
    assert table.rows == ["lora (method.learning_rate=0.001)", "lora (method.learning_rate=0.005)"]
    assert {len(cell.by_seed) for cell in table.cells.values()} == {3}


def test_a_column_has_one_metric():
    outputs(lora=0.6)
    leave(Path("outputs/other"), "mola", 0, 0.9, task="cola", metric="matthews", variant="x")
    with pytest.raises(ConfigError, match=r"a column must have one metric, got accuracy, matthews in all; add --cols"):
        table_of(Path("outputs"), cols=())
    assert set(table_of(Path("outputs")).cols) == {"rte", "cola"}


def test_what_cannot_be_used_is_reported_and_never_averaged(capsys):
    outputs(lora=0.6)
    leave(
        Path("outputs/failed"),
        "lora",
        3,
        0.1,
        status="failed",
        error={"type": "E", "message": "no luck", "traceback": ""},
    )
    leave(Path("outputs/going"), "lora", 4, 0.1, status="running")
    leave(Path("outputs/again"), "lora", 0, 0.9, finished="2026-02-02")
    for name, content in {"broken": "{", "old": '{"version": 0}', "half": '{"version": 1, "na'}.items():
        Path(f"outputs/{name}").mkdir()
        Path(f"outputs/{name}/record.json").write_text(content)
    assert main(["compare", "outputs"]) == 0
    shown = capsys.readouterr()
    for words in ("outputs/failed is failed: no luck", "outputs/going is running", "outputs/lora-s0 was run again as",
                  "broken/record.json is not", "old/record.json must be", "half/record.json is not"):  # fmt: skip
        assert words in shown.err
    assert table_of(Path("outputs")).cells["lora", "rte"].by_seed[0] > 0.8


def test_paths_are_folders_of_runs_runs_or_records(capsys):
    outputs(lora=0.6)
    paths = [Path("outputs/lora-s0"), Path("outputs/lora-s1/record.json")]
    assert sorted(run.record.seed for run in load(paths).runs) == [0, 1]
    with pytest.raises(RecordError, match="nowhere does not exist; "):
        load([Path("nowhere")])
    Path("empty").mkdir()
    assert load([Path("empty"), *paths]).left_out == ["empty holds no runs"]
    assert main(["compare", "nowhere"]) == 2
    assert "molex: nowhere does not exist; name a folder of runs" in capsys.readouterr().err


def test_what_is_not_matched_is_listed():
    outputs(lora=0.6)
    other = {"train": {"epochs": 3.0}, "hardware": {"device": "cuda", "precision": "bf16", "base": "fp32"}}
    for seed in (0, 1, 2):
        leave(
            Path(f"outputs/mola-s{seed}"), "mola", seed, 0.9, settings=other,
            parameters={"trainable": 1100, "head": 10}, data={"train": {"fingerprint": "other"}},
            environment={"packages": {"torch": "2.12.0"}, "git": {"commit": "d", "dirty": True}},
        )  # fmt: skip
    found = confounds(table_of(Path("outputs")))
    lines = "\n".join(note.text for note in found)
    for words in (
        "train.epochs differs: 1 (LORA); 3 (MOLA)",
        "trainable parameters in rte: LORA 1,000, MOLA 1,100 (x 1.10)",
        "data differ in rte",
        "torch versions differ: 2.12.0 (MOLA); 2.13.0 (LORA)",
        "code differs",
        "hardware.precision differs: bf16 (MOLA); fp32 (LORA)",
    ):
        assert words in lines
    assert "method.name" not in lines
    assert confounds(table_of(outputs_alike())) == []


def test_factors_that_differ_with_the_rank_are_a_confound_where_alpha_is_divided_by_it():
    def line(*arms):
        for number, (method, ranks) in enumerate(arms):
            settings = {"method": {"name": f"m{number}", "learning_rate": 1e-3, "rank": 8, "alpha": 16.0} | method}
            leave(Path(f"outputs/{number}"), f"m{number}", settings=settings, rank_per_layer=ranks)
        found = [each.text for each in confounds(table_of(Path("outputs"))) if each.text.startswith("factors")]
        shutil.rmtree("outputs")
        return found

    root = {"scaling": "alpha_over_root_rank"}
    assert line(({}, None), ({"rank": 16}, None)) == [
        "factors of the updates, alpha over rank, differ in rte: 1 (M1); 2 (M0)"
    ]
    assert line(({}, None), ({}, [0, 8, 24])) == [
        "factors of the updates, alpha over rank, differ in rte: 0.667 to 2 (M1); 2 (M0)"
    ]
    assert line(({}, [0, 8, 24]), ({}, [0, 8, 24]))  # within each arm
    molex = {"rank": None, "alpha": 0.95, "inner": "lora", "lora": {"rank": 4, "alpha": 16.0}}
    assert line(({}, None), (molex, None)) == ["factors of the updates, alpha over rank, differ in rte: 2 (M0); 4 (M1)"]
    assert line((root, None), ({"rank": 16, **root}, None)) == []
    assert line(({}, None), ({"rank": 16, "alpha": 32.0}, None)) == []  # the factor is the same
    assert line(({}, None), ({"alpha": 32.0}, None)) == []  # a setting that differs has a line of its own
    assert line(({}, None), ({"rank": None, "alpha": None}, None)) == []


def outputs_alike():
    for method in ("lora", "mola"):
        leave(Path(f"alike/{method}"), method, 0, 0.5)
    return Path("alike")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rows", "methd"], "methd must be a setting of every run, got none in outputs"),
        (["--rows", "train.epoch"], "train.epoch must be a setting of every run"),
        (["--which", "worst"], "--which must be one of last, best, got worst\n"),
        (["--format", "ltex"], "got ltex; did you mean latex?\n"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(capsys, arguments, words):
    outputs(lora=0.6)
    assert main(["compare", "outputs", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_compare_imports_no_torch(tmp_path):
    outputs(lora=0.6)
    code = (
        "import sys\nfrom molex_cli.cli import main\nassert main(['compare', 'outputs']) == 0\n"
        "assert not {'torch', 'transformers', 'datasets', 'wandb', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_real_runs_are_compared_example_by_example():
    assert main(["train", "-m", "experiment=smoke", "method=lora,head", "seed=0,1", "isolate=false"]) == 0
    table = table_of(Path("outputs"))
    pair = [cell.runs[0].correctness("last") for cell in table.cells.values()]
    assert pair[0][0] == pair[1][0]
    for cell in table.cells.values():
        for run in cell.runs:
            assert run.correctness("last")[1].mean() == pytest.approx(run.score("last"))


def test_diff_shows_where_two_runs_differ_and_nothing_else(capsys):
    outputs(lora=0.6, mola=0.9)
    assert main(["diff", "outputs/lora-s0", "outputs/mola-s0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "method.name", "scores.last.accuracy", "scores.best.accuracy",
    ]  # fmt: skip
    assert main(["diff", "outputs/lora-s0", "outputs/lora-s0/record.json"]) == 0
    assert capsys.readouterr().out == "no differences\n"
    assert main(["diff", "outputs/lora-s0", "nowhere"]) == 2


def test_formats_of_numbers_make_arms_of_their_own():
    outputs(lora=0.6)
    half = {"hardware": {"device": "cpu", "precision": "bf16", "base": "fp32"}}
    for seed in (0, 1, 2):
        leave(Path(f"outputs/half-s{seed}"), "lora", seed, 0.9, settings=half)
    table = table_of(Path("outputs"))
    assert sorted(table.rows) == ["lora (hardware.precision=bf16)", "lora (hardware.precision=fp32)"]
    assert {len(cell.by_seed) for cell in table.cells.values()} == {3}


def test_a_setting_that_one_version_lacks_makes_another_arm():
    outputs(lora=0.6)
    for seed in (0, 1, 2):
        method = {"method": {"name": "lora", "published": False, "learning_rate": 1e-3, "new": None}}
        leave(Path(f"outputs/new-s{seed}"), "lora", seed, 0.9, settings=method, variant="other")
    assert len(table_of(Path("outputs")).rows) == 2


@pytest.mark.parametrize("part", ["scores", "settings"])
def test_a_record_that_lacks_a_part_is_left_out(capsys, part):
    outputs(lora=0.6)
    made = leave(Path("outputs/part"), "mola", 0, 0.9)
    setattr(made, part, {})
    records.write_record(Path("outputs/part"), made)
    assert main(["compare", "outputs"]) == 0
    shown = capsys.readouterr()
    assert "outputs/part is incomplete: its record has no" in shown.err
    assert "outputs/part is" not in shown.out


@pytest.mark.parametrize("name", ["md", "json", "latex", "html"])
def test_a_file_names_the_runs_that_are_left_out(name):
    outputs(lora=0.6)
    for number in range(8):
        leave(Path(f"outputs/part{number}"), "mola", number, status="interrupted")
    where = ["--html", "report"] if name == "html" else ["--format", name, "--output", "report"]
    assert main(["compare", "outputs", *where]) == 0
    text = Path("report").read_text()
    assert text.count("is interrupted") == 6
    assert "2 more runs or records" in text


@pytest.mark.parametrize("other", [["--output", "table.md"], ["--format", "md"]])
def test_a_page_beside_another_file_is_refused_instead_of_written_alone(other, capsys):
    outputs(lora=0.6)
    assert main(["compare", "outputs", "--html", "page.html", *other]) == 2
    assert f"--html must be the only file of a comparison, got {' '.join(other)} too" in capsys.readouterr().err
    assert not Path("page.html").exists()
