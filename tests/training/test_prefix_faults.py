"""What goes wrong with the cache of frozen layers while a run goes on, which costs the cache alone."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from support.frozen import SHORT, computed, expect_equal, kept, trained, upper
from support.runs import only_record

from molex_cli.cli import main
from molex_cli.data import hidden_states
from molex_cli.records import cached_prefixes
from molex_cli.runtime import distributed
from molex_cli.training.frozen_prefix import FrozenLayersInTraining

LORA = ["method=lora", *upper("tiny_llama")]


@pytest.mark.parametrize("fault", ["bytes", "read error"])
def test_rows_that_are_damaged_after_the_trial_are_computed_and_told_once(fault, monkeypatch):
    plain = trained("plain", *LORA, "cache_gb=0")
    trained("first", *LORA)
    mismatch = FrozenLayersInTraining._mismatch

    def refuse(*args):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def damaged(layers, cache):
        found = mismatch(layers, cache)
        if fault == "bytes":
            for path in cached_prefixes.files_of(cache.folder):
                with path.open("r+b") as file:
                    file.seek(-path.stat().st_size // 2, os.SEEK_END)
                    file.write(bytes(path.stat().st_size // 2))
        else:
            monkeypatch.setattr(os, "preadv", refuse)
        return found

    monkeypatch.setattr(FrozenLayersInTraining, "_mismatch", damaged)
    read = trained("read", *LORA)
    expect_equal(read, plain)
    assert sum("so batches with its rows are computed" in note for note in read[3]) == 1


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_files_that_vanish_or_are_anothers_are_computed_again(error, monkeypatch):
    first = trained("first", *LORA)
    (path,) = Path("cache", cached_prefixes.FOLDER).rglob("*.safetensors")
    opened = hidden_states.safe_open

    def refused(each, **settings):
        if each.name == path.name:
            raise error(errno.EACCES, "no", str(each))
        return opened(each, **settings)

    monkeypatch.setattr(hidden_states, "safe_open", refused)
    again = trained("again", *LORA)
    expect_equal(again, first, most=0)
    assert again[0]["frozen_layers"]["rows_built"] == first[0]["frozen_layers"]["rows_built"]


def test_processes_that_do_not_share_the_cache_compute(monkeypatch):
    gathered = distributed.all_gather

    def with_one_that_lacks_rows(items):
        return [*items, True] if isinstance(items[0], bool) else gathered(items)

    monkeypatch.setattr(distributed, "all_gather", with_one_that_lacks_rows)
    assert computed(trained("run", *LORA), "a folder that they share")
    assert not list(Path("cache", cached_prefixes.FOLDER).rglob("*.safetensors"))


def test_a_run_that_fails_has_said_what_was_left_out(monkeypatch):
    def fails(*args):
        raise RuntimeError("of something else")

    monkeypatch.setattr(FrozenLayersInTraining, "_read", fails)
    assert main(["train", *SHORT, *LORA, "output_dir=failed"]) != 0
    record, _ = only_record("failed")
    assert record["status"] == "failed"
    assert record["frozen_layers"]["layers"] == 2
    assert record["frozen_layers"]["rows_built"] > 0


def test_an_entry_that_cannot_be_removed_is_named_and_the_others_go(capsys, monkeypatch):
    trained("one", *LORA)
    trained("two", "method=lora", *upper("tiny_llama", "3"))
    first, second = kept()
    real = shutil.rmtree

    def refused(path, *args, **settings):
        if path == first.folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path / "a"))
        real(path, *args, **settings)

    monkeypatch.setattr(shutil, "rmtree", refused)
    capsys.readouterr()
    assert main(["cache", "--clear"]) == 2
    assert f"{first.folder} (Permission denied)" in capsys.readouterr().err
    assert not second.folder.exists()
