"""The real W&B client against a server on the loopback device: what arrives, and what a bad server costs."""

import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb
from support.runs import interrupted
from support.wandb_process import no_process_of_wandb_is_left  # noqa: F401
from wandb_server import ENTITY, Server

from molex_cli.cli import main
from molex_cli.config.schema import LoggedRouting, Wandb
from molex_cli.records import flat
from molex_cli.run import run
from molex_cli.tracking.events import Evaluated
from molex_cli.tracking.wandb import NOT_SENT, PICTURE, _flat_routing, _routing, chosen_mode

SMOKE = ["experiment=smoke", "hardware.threads=1", "log.wandb=online"]
LATER = ["train.max_steps=6", "checkpoint_every=2"]


@pytest.fixture
def connected(monkeypatch):
    """Return a function that points the client to a server, as a process that starts now would be."""
    wandb.teardown()

    def to(url):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.delenv("WANDB_MODE", raising=False)

    yield to
    wandb.teardown()


@pytest.fixture
def server(connected):
    with Server().running() as running:
        connected(running.url)
        yield running


def only(folder):
    """Return the record, the events and the W&B log folders of the only run."""
    (path,) = folder.glob("outputs/*/record.json")
    lines = (path.parent / "events.jsonl").read_text().splitlines()
    logs = sorted(path.parent.glob("wandb/*run-*"), key=lambda log: log.name.removeprefix("offline-"))
    return json.loads(path.read_text()), [json.loads(line) for line in lines], logs


def require_whole(logged, record, events):
    """Assert that the server has all that the record and the events have, under the same names."""
    config = logged.settings()
    arrived = flat(config)
    assert {key: arrived[key] for key, value in flat(record["settings"]).items() if value != {}} == {
        key: value
        for key, value in flat(record["settings"]).items()
        if value != {}  # W&B drops what is empty
    }
    for name in ("variant", "name", "parameters", "experts_per_layer", "flops_per_token", "data"):
        assert config[name] == record[name]
    assert logged.about["groupName"] == record["variant"]
    assert logged.about["jobType"] == "train"
    assert logged.about["displayName"] == f"{record['name']} s{record['seed']}"
    assert logged.about["project"] == "molex"
    steps = {event["step"]: event for event in events if event["event"] == "step"}
    for name in ("loss", "learning_rate", "gradient_norm", "tokens"):
        assert logged.series(f"train/{name}") == {step: event[name] for step, event in steps.items()}
    scored = [event for event in events if event["event"] == "evaluated"]
    assert logged.series("validation/accuracy") == {event["step"]: event["scores"]["accuracy"] for event in scored}
    for layer, figures in record["routing"].items():
        most = max(figures["usage"]) * len(figures["usage"])
        sent = logged.series(f"validation/routing/layer_{layer}/most_used")
        assert list(sent.values())[-1] == pytest.approx(most)
    charts = {name for line in logged.history for name in line if not name.startswith("_")}
    assert sum("routing" in name for name in charts) <= 4 * len(record["routing"]) + 1
    assert sorted({name.partition("/")[0] for name in charts} - {"predictions"}) == ["train", "validation"]
    for which in ("last", "best"):
        for name, value in record["scores"][which]["scores"].items():
            assert logged.summary[f"{which}/{name}"] == value
    assert logged.summary["status"] == record["status"] == "finished"
    assert logged.summary["degenerate"] == record["degenerate"]
    assert logged.summary["training/tokens"] == record["training"]["tokens"]
    assert logged.exit_code == 0


def test_a_single_run_arrives_whole(server, tmp_path, capsys):
    assert main(["train", *SMOKE, "log.tags=[first,rte]", "log.predictions=true"]) == 0
    record, events, (log,) = only(tmp_path)
    ((name, logged),) = server.runs.items()
    require_whole(logged, record, events)
    assert logged.about["tags"] == ["first", "rte"]
    assert f"{server.url}/{ENTITY}/molex/runs/{name}" in capsys.readouterr().out
    (picture,) = [
        content for path, content in logged.files.items() if path.startswith("media/images/validation/routing/usage")
    ]
    assert picture.startswith(b"\x89PNG")
    (table,) = [content for path, content in logged.files.items() if path.endswith(".table.json")]
    path = tmp_path / "outputs" / log.parent.parent.name / "predictions-last.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert json.loads(table)["data"] == [list(row.values()) for row in rows]
    assert not (log / NOT_SENT).exists()


def test_the_documented_numbers_of_charts_are_what_a_run_sends(server, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "wandb.md").read_text(encoding="utf-8")
    told = re.search(r"makes (\d+) charts and a picture; with `log.routing=full`\s(\d+) charts", page)
    assert main(["train", *SMOKE, "method=mola", "log.routing=full"]) == 0
    (logged,) = server.runs.values()
    charts = {name for line in logged.history for name in line if not name.startswith(("_", PICTURE))}
    by_default = {name for name in charts if name.startswith(("train/", "validation/"))}
    assert (len(by_default), len(charts)) == tuple(map(int, told.groups()))


def test_the_seeds_of_a_sweep_are_one_group(server, tmp_path):
    assert main(["train", "-m", *SMOKE, "method=lora", "seed=0,1"]) == 0
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/record.json")]
    assert len(server.runs) == len(records) == 2
    groups = {}
    for logged in server.runs.values():
        assert logged.exit_code == 0
        groups.setdefault(logged.about["groupName"], []).append(logged.settings()["seed"])
    assert {group: sorted(seeds) for group, seeds in groups.items()} == {r["variant"]: [0, 1] for r in records}


def test_a_run_that_goes_on_is_one_run(server, tmp_path, experiment):
    again = interrupted(experiment, "log.wandb=online", *LATER, at=6)
    (logged,) = server.runs.values()
    assert logged.exit_code != 0
    assert max(logged.series("train/loss")) == 5
    run(again)
    record, events, logs = only(tmp_path)
    assert record["attempts"][0]["resumed_from_step"] == 4  # step 5 is told twice
    assert len(logs) == 2
    assert len(server.runs) == 1
    require_whole(logged, record, events)


def test_an_offline_run_is_sent_later_once(server, tmp_path, experiment, capsys):
    again = interrupted(experiment, "log.wandb=offline", *LATER, at=6)
    run(again)
    record, events, logs = only(tmp_path)
    assert not server.runs
    assert [log.name.split("-run-")[0] for log in logs] == ["offline", "offline"]
    assert main(["sync", "--dry-run"]) == 0
    assert not server.runs
    assert main(["sync"]) == 0
    assert "2 of 2 sent" in capsys.readouterr().out
    (logged,) = server.runs.values()
    require_whole(logged, record, events)
    assert main(["sync", "outputs"]) == 0
    assert "nothing to send" in capsys.readouterr().out


def require_local(record, events, steps=4):
    """Assert that the run's own files lack nothing."""
    assert record["status"] == "finished"
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(1, steps + 1))
    assert math.isfinite(record["training"]["mean_loss"])
    assert record["scores"]["last"]["scores"]


@pytest.mark.parametrize("silent", [False, True], ids=["gone", "silent"])
def test_a_server_that_dies_costs_its_time_limit_and_sync_sends_the_rest(connected, tmp_path, silent, capsys):
    with Server().running() as server:
        connected(server.url)
        long = ["train.max_steps=60", "train.epochs=60", "log.timeout=3"]
        process = subprocess.Popen([sys.executable, "-m", "molex_cli", "train", *SMOKE, *long])
        wait_for(lambda: sum(path.read_text().count('"step"') for path in tmp_path.glob("outputs/*/events.jsonl")) > 5)
        assert process.poll() is None
        if silent:
            server.silent = True
        else:
            server.die()
        assert process.wait(timeout=120) == 0  # without a limit it would wait for ever
        known = server.runs
    record, events, (log,) = only(tmp_path)
    require_local(record, events, 60)
    assert any(event["event"] == "noted" and "molex sync" in event["message"] for event in events)
    assert (log / NOT_SENT).exists()
    assert main(["sync"]) == 2
    assert "server must answer" in capsys.readouterr().err
    with Server(runs=known).running() as back:
        connected(back.url)
        assert main(["sync"]) == 0
        (logged,) = back.runs.values()
        require_whole(logged, record, events)
    assert not (log / NOT_SENT).exists()


def wait_for(reached):
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


SLOW = pytest.mark.slow
KINDS = {"dead": None, "silent": {"silent": True}, "403": {"refusal": 403}, "500": {"refusal": 500}}
KINDS |= {"nonsense": {"refusal": 200}}


@pytest.mark.parametrize("kind", ["silent", "nonsense", *(pytest.param(k, marks=SLOW) for k in ("dead", "403", "500"))])
def test_a_run_that_no_server_takes_is_logged_offline_and_sent_whole_later(connected, tmp_path, kind, capsys):
    with Server(**(KINDS[kind] or {})).running() as server:
        connected(server.url)
        if kind == "dead":
            server.die()
        started = time.monotonic()
        assert main(["train", *SMOKE, "log.timeout=1"]) == 0
        assert time.monotonic() - started < 20  # it was twice that, at this limit, where W&B still held the id
    printed = capsys.readouterr().out
    assert printed.count("W&B cannot be reached, logging offline; `molex sync` sends the run later") == 1
    assert "failed" not in printed
    record, events, logs = only(tmp_path)
    require_local(record, events)
    assert [log.name.split("-run-")[0] for log in logs if (log / NOT_SENT).exists()] == ["offline"]
    with Server().running() as back:
        connected(back.url)
        assert main(["sync"]) == 0
    assert "1 of 1 sent" in capsys.readouterr().out
    (logged,) = back.runs.values()
    require_whole(logged, record, events)


def test_a_run_is_not_said_to_be_logged_offline_before_it_is(connected, monkeypatch, capsys):
    def fails(**settings):
        raise OSError(f"no {settings['mode']} log")

    connected("http://127.0.0.1:9")
    monkeypatch.setattr(wandb, "init", fails)
    assert main(["train", *SMOKE]) == 0
    printed = capsys.readouterr().out
    assert "WandbSink failed and is off for the rest of the run (OSError: no offline log)" in printed
    assert "logging offline" not in printed


def test_the_saved_workspace_groups_seeds_and_has_the_panels(server, tmp_path, capsys):
    pytest.importorskip("wandb_workspaces")
    assert main(["train", *SMOKE, "log.wandb=disabled"]) == 0
    capsys.readouterr()
    assert main(["wandb-view", "--json", "--entity", "someone"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["entity"], printed["project"]) == ("someone", "molex")
    assert main(["wandb-view"]) == 0
    assert server.url in capsys.readouterr().out
    (view,) = server.views
    assert (view["entityName"], view["projectName"]) == (ENTITY, "molex")
    told = view["spec"]
    for text in (
        "validation/accuracy",
        "last/accuracy",
        "train/balance_loss",
        "routing/layer_[0-9]+/utilisation$",
        "variant",
        "finished",
    ):
        assert text in told


def test_the_documented_links_bring_the_logs_of_two_runs_together_for_the_viewer(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "wandb.md").read_text(encoding="utf-8")
    (links,) = re.findall(r"^mkdir .*$", page, re.M)
    for seed in (0, 1):
        assert main(["train", "experiment=smoke", "method=head", "train.max_steps=1", f"seed={seed}",
                     "hardware.threads=1", "log.wandb=offline"]) == 0  # fmt: skip
    subprocess.run(["bash", "-c", links], check=True)
    logs = sorted(Path("leet").glob("*run-*"))
    assert len(logs) == 2
    for log in logs:
        inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", str(log)]
        done = subprocess.run(inspect, capture_output=True, text=True, env=os.environ | {"HOME": str(tmp_path)})
        assert "finished" in done.stdout, done.stderr


def test_a_workspace_of_no_runs_is_refused(tmp_path, capsys):
    assert main(["wandb-view", str(tmp_path)]) == 2
    assert "finished runs" in capsys.readouterr().err


def test_wandb_gets_usage_entropy_and_margin_of_each_layer():
    values = _flat_routing("routing", {"1": {"usage": [0.25, 0.75], "entropy": 0.5, "margin": 0.1}})
    assert values == {
        "routing/layer_1/expert_0": 0.25,
        "routing/layer_1/expert_1": 0.75,
        "routing/layer_1/entropy": 0.5,
        "routing/layer_1/margin": 0.1,
    }


LAYER = {
    "usage": [0.25, 0.75],
    "entropy": 0.5,
    "utilisation": 0.3,
    "gate": [0.5, 0.5],
    "modules": {"query": {"usage": [0.25, 0.75], "entropy": 0.6}},
}


def test_of_the_routing_wandb_gets_a_summary_all_of_it_or_nothing():
    event = Evaluated(
        step=1,
        epoch=1.0,
        split="validation",
        loss=0.1,
        scores={},
        seconds=1.0,
        best=True,
        routing={"0": LAYER},
        training_routing={"0": LAYER},
    )
    summary = {"utilisation": 0.3, "entropy": 0.5, "most_used": 1.5}
    short = {f"validation/routing/layer_0/{name}": value for name, value in summary.items()}
    assert _routing(event, LoggedRouting.summary) == short
    full = _routing(event, LoggedRouting.full)
    assert full.items() > short.items()
    assert {"routing/layer_0/expert_1", "routing/layer_0/query/entropy", "training_routing/layer_0/gate_0"} <= set(full)
    assert _routing(event, LoggedRouting.none) == {}


@pytest.mark.parametrize("variable", ["WANDB_DISABLED=1", "WANDB_DISABLED=Yes", "WANDB_MODE=disabled"])
def test_an_environment_that_disables_wandb_is_heard(variable, experiment, monkeypatch):
    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value)
    record = run(experiment("method=head", "train.max_steps=1", "log.wandb=auto"))
    assert record.status == "finished"
    assert not list(Path("outputs").glob("*/wandb"))


def test_a_setting_goes_before_the_environment_and_false_disables_nothing(monkeypatch):
    monkeypatch.setenv("WANDB_DISABLED", "true")
    assert chosen_mode(Wandb.offline) == "offline"
    monkeypatch.setenv("WANDB_DISABLED", "false")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert chosen_mode(Wandb.auto) == "offline"
