"""A run counts once, by whatever names its folder is given."""

from pathlib import Path

import pytest
from support.made_records import leave, outputs

from molex_cli.cli import main
from molex_cli.compare.loading import load
from molex_cli.runtime.paths import distinct


def names(tmp_path: Path) -> list[str]:
    """Return names of the folder outputs."""
    Path("link").symlink_to("outputs")
    Path("a").mkdir()
    return [
        "link",
        "outputs/",
        "a/../outputs",
        str(tmp_path / "outputs"),
        "./outputs",
        "outputs/lora-s0",
        "link/lora-s0",
    ]


def test_a_folder_by_several_names_counts_once(tmp_path, capsys):
    outputs(lora=0.6, mola=0.7)
    assert main(["compare", "outputs"]) == 0
    once = capsys.readouterr().out
    for name in names(tmp_path):
        assert main(["compare", "outputs", name]) == 0
        shown = capsys.readouterr()
        assert (shown.out, shown.err) == (once, ""), name
    assert main(["compare", "link", "outputs"]) == 0
    assert capsys.readouterr().err == ""


def test_a_link_beside_a_run_is_that_run():
    outputs(lora=0.6)
    Path("outputs/again").symlink_to("lora-s0")
    found = load([Path("outputs")])
    assert (len(found.runs), found.left_out) == (3, [])


def test_a_record_by_its_own_name_is_its_folders():
    outputs(lora=0.6)
    assert len(load([Path("outputs/lora-s0/record.json"), Path("outputs")]).runs) == 3


def test_what_is_left_out_is_told_once(tmp_path):
    outputs(lora=0.6)
    Path("outputs/lora-s0/record.json").write_text("{")
    left_out = load([Path("outputs"), *map(Path, names(tmp_path))]).left_out
    assert len(left_out) == 1
    assert left_out[0].startswith("outputs/lora-s0/record.json is not the record of a run, or is damaged")


def test_experts_analyses_a_run_once(capsys):
    leave(Path("outputs/mola-s0"), "mola", routing={"0": {"usage": [0.5, 0.5]}})
    Path("link").symlink_to("outputs/mola-s0")
    assert main(["experts", "outputs/mola-s0", "link", "outputs/mola-s0/"]) == 0
    assert capsys.readouterr().out.count("mola-s0") == 1


def test_a_wandb_log_is_sent_once(capsys, monkeypatch):
    leave(Path("outputs/mola-s0"), "mola")
    log = Path("outputs/mola-s0/wandb/offline-run-1")
    log.mkdir(parents=True)
    from molex_cli.tracking.wandb import NOT_SENT

    (log / NOT_SENT).touch()
    Path("link").symlink_to("outputs")
    assert main(["sync", "link", "outputs", "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("missing", ["nowhere", "lost"])
def test_names_of_nothing_stay(missing):
    Path("lost").symlink_to("nowhere-either")
    assert distinct([Path(missing), Path("."), Path("./")]) == [Path(missing), Path(".")]
