"""What decides the numbers of a run decides whether an earlier try is that run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from molex_cli.cli import main
from molex_cli.config import schema
from molex_cli.data import same_run
from molex_cli.data.tables import files_of
from molex_cli.errors import DataError
from molex_cli.models import sources
from molex_cli.models.settings import Model
from molex_cli.records import Record, locks, read_record, write_record
from molex_cli.records.locks import Resume, State
from molex_cli.run import run

ROWS = {"train.csv": "a b c,yes\nd e f,no\n" * 8, "test.csv": "g h i,yes\nj k l,no\n" * 4}
COMMAND = [
    "train",
    "experiment=smoke",
    "method=bitfit",
    "train.max_steps=1",
    "task=files",
    "task.files.train=train.csv",
    "task.files.validation=test.csv",
    "task.columns=[text]",
]


def write(**changed: str) -> None:
    for name, rows in ROWS.items():
        text = changed.get(name.removesuffix(".csv"), rows)
        Path(name).write_text("text,label\n" + text, encoding="utf-8")


def folders() -> list[str]:
    """Return the runs that were made, the first one as `1`."""
    names = sorted(path.parent.name for path in Path("outputs").glob("*/record.json"))
    return [name.removeprefix(names[0]).lstrip(".") or "1" for name in names]


CHANGES = {
    "edited text": ROWS["test.csv"].replace("g h i", "g h x", 1),
    "exchanged labels": ROWS["test.csv"].replace("yes", "?").replace("no", "yes").replace("?", "no"),
    "one row less": ROWS["test.csv"].partition("\n")[2],
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_rows_make_another_run_and_the_line_names_them(change: str, capsys: pytest.CaptureFixture[str]) -> None:
    write()
    assert main(COMMAND) == 0
    write(test=CHANGES[change])
    capsys.readouterr()
    assert main(COMMAND) == 0
    shown = capsys.readouterr().out
    assert "finished before" not in shown
    assert "is another run of this name (rows of validation: " in shown
    assert folders() == ["1", "2"]
    for rows, folder in ((CHANGES[change], ".2"), (ROWS["test.csv"], "")):  # each is found again
        write(test=rows)
        assert main(COMMAND) == 0
        assert f"-s0{folder}/record.json" in capsys.readouterr().out
    assert folders() == ["1", "2"]


def test_renamed_labels_make_another_run(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    assert main(COMMAND) == 0
    write(**{name.removesuffix(".csv"): rows.replace("yes", "zes") for name, rows in ROWS.items()})
    assert main(COMMAND) == 0
    assert "labels of train: no, yes -> no, zes" in capsys.readouterr().out
    assert folders() == ["1", "2"]


def test_a_sweep_over_data_scores_each_of_them(capfd: pytest.CaptureFixture[str]) -> None:
    for name, labels in (("A", "01"), ("B", "10")):
        folder = Path(name, "glue/RTE")
        folder.mkdir(parents=True)
        words = ["entailment" if label == "0" else "not_entailment" for label in labels]
        rows = "".join(f"{i}\tone {i}\ttwo {i}\t{words[i % 2]}\n" for i in range(16))
        for split in ("train", "dev"):
            (folder / f"{split}.tsv").write_text("index\tsentence1\tsentence2\tlabel\n" + rows)
    command = ["train", "-m", "experiment=smoke", "method=bitfit", "train.max_steps=1", "task=glue/rte", "data_dir=A,B"]
    assert main(command) == 0
    assert folders() == ["1", "2"]
    first, second = (json.loads(path.read_text()) for path in sorted(Path("outputs").glob("*/record.json")))
    assert {first["settings"]["data_dir"], second["settings"]["data_dir"]} == {"A", "B"}
    assert main(command) == 0
    assert folders() == ["1", "2"]


def test_a_sweep_over_number_formats_makes_each_of_them(capfd: pytest.CaptureFixture[str]) -> None:
    command = ["train", "-m", "experiment=smoke", "method=bitfit", "train.max_steps=1", "hardware.precision=fp32,bf16"]
    assert main(command) == 0
    made = [read_record(path.parent) for path in sorted(Path("outputs").glob("*/record.json"))]
    assert sorted(record.settings["hardware"]["precision"] for record in made) == ["bf16", "fp32"]
    assert made[0].variant == made[1].variant
    capfd.readouterr()
    assert main(["compare", "outputs", "--format", "json"]) == 0
    cells = json.loads(capfd.readouterr().out)["cells"]
    assert [cell["n"] for cell in cells] == [1, 1]  # not two seeds of one arm


def test_where_a_run_is_computed_makes_it_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    for hardware in (["hardware=cpu"], ["hardware=auto"], ["hardware=pool", "hardware.device=cpu"]):
        assert main(["train", "experiment=smoke", "method=bitfit", "train.max_steps=1", *hardware]) == 0
    assert folders() == ["1"]
    assert main(["train", "experiment=smoke", "method=bitfit", "train.max_steps=1", "hardware=auto", "seed=1"]) == 0
    capsys.readouterr()
    assert main(["compare", "outputs", "--format", "json"]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert cell["n"] == 2


def test_bad_rows_leave_no_folder(experiment: Callable[..., schema.Experiment]) -> None:
    write(test="g h i,maybe\n")
    with pytest.raises(DataError, match="maybe"):
        run(experiment(*COMMAND[2:]))
    assert not list(Path().glob("outputs/*"))


def test_settings_decide_where_two_runs_have_one_id(experiment: Callable[..., schema.Experiment]) -> None:
    found = experiment("method=bitfit")
    settings = schema.as_data(found)
    settings["train"]["epochs"] = 7.0  # as if another version had given it the same id
    lock = same_run.acquired(found)
    write_record(lock.folder, Record(name="a", variant="v", seed=0, settings=settings, status="finished"))
    lock.release()
    other = same_run.acquired(found)
    other.release()
    assert other.folder.name == f"{lock.folder.name}.2"


def test_what_a_record_of_before_does_not_know_makes_it_no_other(experiment: Callable[..., schema.Experiment]) -> None:
    found = experiment("method=bitfit")
    lock = same_run.acquired(found)
    settings = schema.as_data(found)
    del settings["task"]["objective"]
    write_record(lock.folder, Record(name="a", variant="v", seed=0, settings=settings, status="finished"))
    lock.release()
    ended = same_run.ended(found)
    assert ended is not None
    assert ended.folder == lock.folder


def test_other_weights_in_the_same_folder_are_another_base(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    model = Model(name="mine", folder=str(tmp_path))
    found = set()
    for weights in (b"1" * 10, b"2" * 10, b"1" * 11):
        (tmp_path / "model.safetensors").write_bytes(weights)
        found.add(sources.base(model)["fingerprint"])
    assert len(found) == 3
    assert sources.base(Model(name="random", random=True)) == {}


def test_two_runs_of_one_name_that_start_together_do_not_share_a_folder(tmp_path: Path) -> None:
    first = locks.acquire(str(tmp_path), "run", Resume.missing, {"rows": "A"})  # it has no record yet
    second = locks.acquire(str(tmp_path), "run", Resume.missing, {"rows": "B"}, wait=0)
    assert (second.state, second.folder.name) == (State.ours, "run.2")
    third = locks.acquire(str(tmp_path), "run", Resume.missing, {"rows": "A"}, wait=0)
    assert (third.state, third.folder.name) == (State.elsewhere, "run")
    first.release()


def test_a_file_under_the_home_folder_counts_as_any_other(experiment, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    task = experiment(*(setting.replace("=train.csv", "=~/train.csv") for setting in COMMAND[2:])).task
    assert files_of(task, None) == [Path.cwd() / "train.csv", Path("test.csv")]


def test_a_damaged_record_names_the_way_out_and_the_way_out_works(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    assert main(COMMAND) == 0
    (record,) = Path("outputs").glob("*/record.json")
    record.write_text(record.read_text()[:200])
    capsys.readouterr()
    assert main(COMMAND) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("; resume=never starts over beside it")
    assert main([*COMMAND, "resume=never"]) == 0
    assert f"{record}" in capsys.readouterr().out
