"""The cache of frozen layers: limits, full disks, damage, and processes that share or lose it."""

import multiprocessing
import os
import shutil
import signal
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.frozen import SHORT, computed, expect_equal, kept, trained, upper
from support.full_disk import files_of_at_most

from molex_cli.cli import main
from molex_cli.data import hidden_states
from molex_cli.records import cached_prefixes
from molex_cli.training import prefix_cache

LORA = ["method=lora", *upper("tiny_llama")]


@pytest.fixture(scope="module")
def fresh_process():
    """Return what starts a function in a process of its own, forked from one that has the imports behind it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["molex_cli.launching.preload"])
    return context.Process


def test_more_than_the_limit_is_not_kept():
    plain = trained("plain", *LORA, "cache_gb=0")
    limited = trained("limited", *LORA, "cache_gb=1e-4")
    assert computed(limited, "cache_gb is 0.0001")
    expect_equal(limited, plain, most=0)
    assert not sum(entry.rows for entry in kept())


def test_the_limit_holds_for_all_prefixes_together():
    trained("one", *LORA)
    (entry,) = kept()
    limit = f"cache_gb={1.5 * entry.bytes / 1e9}"
    assert computed(trained("two", "method=lora", *upper("tiny_llama", "3"), limit), "molex cache --clear")
    assert trained("one again", *LORA, "seed=1", limit)[0]["frozen_layers"]["layers"] == 2


def test_half_of_what_a_disk_has_stays_free(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "total used free")(10**9, 10**9, 10**5))
    assert computed(trained("run", *LORA), "of which half at most is taken")


def test_a_disk_that_fills_up_costs_the_cache_alone():
    with files_of_at_most(150_000):
        assert computed(trained("run", *LORA), "must have room for what is written")
    assert not list(Path("cache", cached_prefixes.FOLDER).rglob("*.safetensors"))


def test_a_cache_that_cannot_be_written_to_costs_nothing_else():
    Path("cache").mkdir()
    Path("cache", cached_prefixes.FOLDER).write_text("in the way")
    assert computed(trained("run", *LORA), cached_prefixes.FOLDER)


def test_damaged_files_are_made_anew():
    first = trained("first", *LORA)
    (path,) = Path("cache", cached_prefixes.FOLDER).rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    again = trained("again", *LORA)
    expect_equal(again, first)
    assert again[0]["frozen_layers"]["rows_built"] == first[0]["frozen_layers"]["rows_built"]


def test_a_file_with_other_numbers_is_not_believed():
    plain = trained("plain", *LORA, "cache_gb=0")
    trained("first", *LORA)
    (path,) = Path("cache", cached_prefixes.FOLDER).rglob("*.safetensors")
    tensors = load_file(path)
    states = tensors["states"] + 0.01
    parts = torch.tensor_split(states, tensors["ends"][:-1])
    save_file(
        tensors | {"states": states, "checksums": torch.tensor(list(map(hidden_states.checksum_of, parts)))}, path
    )
    doubted = trained("doubted", *LORA)
    assert computed(doubted, "outputs are off by")
    expect_equal(doubted, plain, most=0)


def test_rows_come_back_as_they_were_added(tmp_path):
    rows = {f"{i:016}".encode(): torch.randn(1 + i % 5, 3).to(torch.bfloat16) for i in range(20)}
    writer = hidden_states.Writer(tmp_path, file_bytes=100)
    for key, states in rows.items():
        writer.add(key, states)
    writer.flush()
    store = hidden_states.HiddenStates(tmp_path)
    store.look()
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    found = store.batch(list(rows), 7)
    for line, states in zip(found, rows.values(), strict=True):
        assert torch.equal(line[: len(states)], states)
        assert not line[len(states) :].any()
    assert store.bytes_of(list(rows)) == sum(states.nbytes for states in rows.values())
    assert store.batch([*rows, b"another"], 7) is None
    for path in tmp_path.glob("*.safetensors"):
        os.truncate(path, path.stat().st_size // 2)
    assert store.batch(list(rows), 7) is None
    store.close()


def go(folder, settings, dies):
    """Run a command; where it dies, in the middle of writing its second file, when `die` is there."""
    os.chdir(folder)
    os.environ |= {"MOLEX_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    if dies:
        prefix_cache.FILE_BYTES = 50_000
        saved = hidden_states.save_file

        def half(tensors, path):
            saved(tensors, path)
            if any(path.parent.glob("*.safetensors")):
                path.write_bytes(path.read_bytes()[:1000])
                (folder / "is writing").touch()
                while not (folder / "die").exists():
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)

        hidden_states.save_file = half
    raise SystemExit(main(["train", *SHORT, *settings]))


def wait_for(what, seconds=60):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("another_waits", [False, True])
def test_a_builder_that_is_killed_leaves_nothing_half(tmp_path, fresh_process, another_waits):
    plain = trained("plain", *LORA, "cache_gb=0")
    killed = fresh_process(target=go, args=(tmp_path, [*LORA, "output_dir=killed"], True))
    killed.start()
    wait_for((tmp_path / "is writing").exists)
    others = []
    if another_waits:
        other = fresh_process(target=go, args=(tmp_path, [*LORA, "output_dir=other"], False))
        other.start()
        others.append(other)
        waiting = "another process computes these frozen layers"
        wait_for(lambda: any(waiting in path.read_text() for path in tmp_path.glob("other/*/events.jsonl")))
        assert any(entry.in_use for entry in kept())
        assert main(["cache", "--clear"]) == 0
        assert any(kept())
    (tmp_path / "die").touch()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    for other in others:
        other.join()
        assert other.exitcode == 0
    for folder in ["other"] * another_waits + ["killed"]:  # the last one is started again
        again = trained(folder, *LORA)
        expect_equal(again, plain)
        assert again[0]["frozen_layers"]["layers"] == 2
    assert not list(Path("cache").rglob("*.partial"))
    (entry,) = kept()
    everything = trained("everything", *LORA, "seed=1")[0]["frozen_layers"]
    assert everything["rows_built"] == 0
    assert entry.rows > 0


def test_two_processes_of_a_run_share_the_work_and_the_rows():
    one = trained("one", *LORA, "cache_gb=0", "method.dropout=0")
    two = ["hardware=ddp", "hardware.device=cpu", "hardware.processes=2", "hardware.threads=1"]
    shared = trained("two", *LORA, *two, "method.dropout=0")
    assert shared[0]["training"]["processes"] == 2
    expect_equal(shared, one)
    about = shared[0]["frozen_layers"]
    assert about["layers"] == 2
    assert about["rows_built"] == kept()[0].rows
    assert about["rows_read"] > about["rows_built"]


def test_layers_with_sharded_weights_are_computed_and_keep_still():
    settings = ["method=lora", *upper("tiny_bert"), "train.frozen_dropout=false", "train.max_steps=2"]
    two = ["hardware=fsdp", "hardware.device=cpu", "hardware.processes=2", "hardware.threads=1"]
    shared = trained("two", *settings, *two)
    assert computed(shared, "hardware.shard")
    assert any("dropout of the lowest 2 layers" in note for note in shared[3])
    assert shared[0]["training"]["processes"] == 2


def test_the_command_lists_and_clears(capsys):
    assert main(["cache"]) == 0
    assert "keeps nothing" in capsys.readouterr().out
    trained("one", *LORA)
    trained("two", "method=lora", *upper("tiny_llama", "3"))
    capsys.readouterr()
    assert main(["cache"]) == 0
    head, *lines, total, others = capsys.readouterr().out.splitlines()
    assert "tokens 0." in others
    assert head.split() == ["key", "model", "layers", "rows", "size", "last", "used"]
    assert [line.split()[1:3] for line in lines] == [["tiny_llama", "2"], ["tiny_llama", "3"]]
    assert total.endswith("in all")
    first, second = kept()
    assert main(["cache", "--clear", first.key[:6]]) == 0
    assert capsys.readouterr().out.startswith(f"removed {first.key} (tiny_llama, 2 layers, {first.rows:,} rows, ")
    assert kept() == [second]
    with cached_prefixes.in_use(second.folder):
        assert main(["cache"]) == 0
        assert " now" in capsys.readouterr().out
        assert main(["cache", "--clear"]) == 0
        assert "a process uses it" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert not kept()
    assert main(["cache", "nothing"]) == 2
    assert "KEY must be one that molex cache lists" in capsys.readouterr().err
