"""Runs to a hub on the loopback device and back, with the real client: the same logits, and a line for each failure."""

import json

import pytest
from support.hub import STRANGER, WRITER, WRITERS_READER, Fault, status
from support.runs import working_in

from molex_cli.cli import main

pytest_plugins = ["support.hub.fixtures"]

ROWS = "a,b,label\n" + "".join(f"x{i} word {i * 7},y{i} more,{'yes' if i % 3 else 'no'}\n" for i in range(24))
FILES = ["task=files", "task.columns=[a,b]", "task.files.train=rows.csv", "task.files.validation=rows.csv"]
SMOKE = ["train", "experiment=smoke", "hardware.threads=1", "train.learning_rate=0.02"]
METHODS = {
    "lora": ["method=lora", "model=tiny_bert"],
    "mola": ["method=mola_inverted", "model=tiny_llama"],
    "molex": ["method=molex", "model=tiny_llama"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a run of each method, and one of LoRA with another seed."""
    home = tmp_path_factory.mktemp("runs")
    (home / "rows.csv").write_text(ROWS)
    with working_in(home):
        for name, settings in {**METHODS, "other": ["method=lora", "seed=1"]}.items():
            assert main([*SMOKE, *FILES, *settings, f"output_dir={name}"]) == 0
    return {name: next((home / name).glob("*-s*")) for name in (*METHODS, "other")}


@pytest.fixture
def push(molex, tmp_path):
    """Return a function that pushes a run with a token and returns how that ended."""
    (tmp_path / "rows.csv").write_text(ROWS)

    def command(run, *flags, repo="ada/tiny", token=WRITER):
        return molex("push", str(run), "--repo", repo, "--degenerate", *flags, HF_TOKEN=token)

    return command


def files_of(hub, repo="ada/tiny", branch="main"):
    repository = hub.repositories["models", repo]
    return repository.commits[repository.refs[branch]]


def predictions_from_hub(hub_process):
    """Return the newest predictions that molex eval has left of a run of the hub."""
    found = (hub_process.home.parent / "cache" / "hub").glob("*/evaluations/*-predictions.jsonl")
    return max(found, key=lambda path: path.stat().st_mtime).read_text()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_loaded_from_the_hub_in_a_fresh_process_gives_the_logits_of_the_run(
    method, runs, push, molex, hub, hub_process
):
    ended = push(runs[method])
    assert ended.code == 0, ended.err
    again = molex("eval", "run=hub:ada/tiny")
    assert again.code == 0, again.err
    own = (runs[method] / "predictions-last.jsonl").read_text()
    assert "logits" in json.loads(own.splitlines()[0])
    assert predictions_from_hub(hub_process) == own
    hub.faults.append(Fault(".*", status(503)))  # from now on its cache alone has the run
    assert molex("predict", "run=hub:ada/tiny", "--file", "rows.csv").code == 0


def test_every_command_that_opens_a_run_takes_one_of_the_hub(runs, push, molex):
    assert push(runs["lora"]).code == 0
    for command in (
        ["merge", "hub:ada/tiny", "--output", "whole"],
        ["export", "hub:ada/tiny", "--output", "theirs"],
        ["experts", "hub:ada/tiny", "--json", "--ablate", "layers"],
        ["probe", "run=hub:ada/tiny", "--json"],
        ["compare", "hub:ada/tiny"],
        ["diff", "hub:ada/tiny", "hub:ada/tiny"],
        ["push", "hub:ada/tiny", "--repo", "ada/copy", "--degenerate", "--dry-run", "copy"],
    ):
        ended = molex(*command)
        assert ended.code == 0, (command, ended.err)


def test_pushing_twice_changes_nothing_and_another_run_takes_the_place(runs, push, hub):
    first = push(runs["lora"], "--predictions")
    assert "adapter-last.safetensors, predictions-last.jsonl, record.json sent to" in first.out
    repository = hub.repositories["models", "ada/tiny"]
    count = len(repository.commits)
    again = push(runs["lora"], "--predictions")
    assert "has all of it already" in again.out, again.err
    assert len(repository.commits) == count
    assert push(runs["other"], "--which", "best", "--message", "Seed 1").code == 0
    names = [".gitattributes", "README.md", "adapter-best.safetensors", "record.json"]
    assert sorted(files_of(hub)) == names
    assert json.loads(files_of(hub)["record.json"])["seed"] == 1
    assert repository.messages == ["A run of molex", "Seed 1"]


def test_a_branch_is_made_and_opened_by_its_name(runs, push, molex, hub, hub_process):
    assert push(runs["lora"]).code == 0
    assert push(runs["other"], "--revision", "seed-1").code == 0
    seeds = [json.loads(files_of(hub, branch=name)["record.json"])["seed"] for name in ("main", "seed-1")]
    assert seeds == [0, 1]
    assert molex("eval", "run=hub:ada/tiny@seed-1").code == 0
    assert predictions_from_hub(hub_process) == (runs["other"] / "predictions-last.jsonl").read_text()
    line = molex("eval", "run=hub:ada/tiny@gone").line()
    assert "run=hub:USER/NAME@REVISION must be a branch, a tag or a commit of ada/tiny, got gone" in line


def test_a_private_repository_opens_to_its_owner_alone(runs, push, molex, hub):
    assert push(runs["lora"], "--private").code == 0
    assert hub.repositories["models", "ada/tiny"].private
    assert "run=hub:USER/NAME must be a run on the hub, got ada/tiny, which" in molex("eval", "run=hub:ada/tiny").line()
    assert molex("eval", "run=hub:ada/tiny", HF_TOKEN=WRITER).code == 0


def test_the_token_is_in_nothing_that_is_sent_kept_or_shown(runs, push, molex, hub, tmp_path, hub_process):
    ended = push(runs["lora"])
    ended.out += push(runs["lora"], token=WRITERS_READER).err
    again = molex("eval", "run=hub:ada/tiny", HF_TOKEN=WRITER)
    assert WRITER not in ended.out + ended.err + again.out + again.err
    assert all(WRITER.encode() not in content for content in files_of(hub).values())
    for folder in (tmp_path, hub_process.home.parent / "cache", runs["lora"]):
        assert all(WRITER.encode() not in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert all(each.token is None for each in hub.requests("/storage/"))


def quota(handler, reply):
    return type(reply).of({"error": "Private repository storage limit reached"}, 403)


def gone(handler, reply):
    return None


def meanwhile(handler, reply):
    handler.server.home.repositories["models", "ada/tiny"].commit({"README.md": b"somebody's"})
    return reply


@pytest.mark.parametrize(
    ("flags", "token", "fault", "told"),
    [
        ([], None, None, "molex push must have a token of the hub, got none; log in with hf auth login, or set HF_"),
        ([], "hf_" + "unknownxxxxx" * 3, None, "molex push must have a token that the hub knows, got 401 Invalid cred"),
        ([], WRITERS_READER, None, "ada/tiny must be a repository that your token may write to, got 403 You don't"),
        ([], STRANGER, None, "ada/tiny must be a repository that your token may write to, got 403 You don't"),
        ([], WRITER, Fault("/commit/", status(503)), "the hub must take what is sent to ada/tiny, got 503"),
        ([], WRITER, Fault("/create", status(429)), "the hub must take what is sent to ada/tiny, got 429"),
        ([], WRITER, Fault("/commit/", quota), "ada/tiny must have room on the hub, got 403 Private repository"),
        ([], WRITER, Fault("/commit/", gone), "the hub must be reached at http://127.0.0.1"),
        ([], WRITER, Fault("/preupload/", meanwhile), "ada/tiny must not change while it is written to, got 412 A com"),
        (["--message", WRITER], WRITER, None, "--message must hold no secret, got the value of a token or of a variab"),
        ([], WRITER, Fault("/storage/", status(403), method="PUT"), "ada/tiny must be a repository that your token"),
    ],
)  # fmt: skip
def test_each_failure_of_a_push_is_one_line(flags, token, fault, told, runs, push, hub):
    hub.faults += [fault] if fault else []
    line = push(runs["lora"], *flags, token=token).line()
    assert line.startswith(told)
    assert str(token) not in line


def test_a_repository_of_another_or_of_something_else_is_left_alone(runs, push, hub):
    hub.add("models", "bob/model", {"record.json": b"{}"})
    assert "may write to, got 403" in push(runs["lora"], repo="bob/model").line()
    hub.add("models", "ada/model", {"README.md": b"mine", "model.safetensors": b"x"})
    line = push(runs["lora"], repo="ada/model").line()
    assert line.startswith("--repo must be a new repository or one that molex push wrote, got ada/model with README.md")
    assert files_of(hub, "ada/model")["README.md"] == b"mine"


def test_private_is_not_promised_of_what_is_public(runs, push, hub):
    assert push(runs["lora"]).code == 0
    line = push(runs["other"], "--private").line()
    assert line.startswith("--private must be given for a private or new repository, got ada/tiny, which is public")


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ("hub:ada/none", "run=hub:USER/NAME must be a run on the hub, got ada/none, which"),
        ("hub:tiny", "a run on the hub must be named hub:USER/NAME or hub:USER/NAME@REVISION, got hub:tiny"),
        ("hub:ada/../etc", "a run on the hub must be named hub:USER/NAME"),
        ("hub:ada/gated", "run=hub:USER/NAME must be a run that is open to you, got ada/gated"),
        ("hub:ada/other", "hub:ada/other must hold a run that molex push sent, got a repository without adapter-last"),
        ("hub:ada/broken", "got a damaged or foreign one"),
    ],
)
def test_each_failure_of_opening_a_run_of_the_hub_is_one_line(run, told, molex, hub):
    hub.add("models", "ada/gated", {"record.json": b"{}"}, gated=True)
    hub.add("models", "ada/other", {"pytorch_model.bin": b"x", "evil.py": b"raise SystemExit(77)"})
    hub.add("models", "ada/broken", {"adapter-last.safetensors": b"\x80\x04cos\nsystem\n", "adapter-x.py": b"1"})
    assert told in molex("eval", f"run={run}", HF_TOKEN=STRANGER).line()
    assert not hub.requests(r"resolve.*\.(bin|py)")


def test_a_hub_that_is_away_says_so_without_a_copy(molex, hub):
    hub.add("models", "ada/tiny", {"record.json": b"{}"})
    hub.faults.append(Fault(".*", gone))
    line = molex("eval", "run=hub:ada/tiny").line()
    assert line.startswith(("run=hub:ada/tiny must come from the hub", "ada/tiny must come whole"))
