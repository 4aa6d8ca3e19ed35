"""What molex push would send: the card tells what the record says, and nothing of the machine goes with it."""

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from conftest import batch
from support.made_records import made
from support.runs import working_in

from molex_cli.checkpoints import adapter, saved_run
from molex_cli.checkpoints.hub.outgoing import public_record, public_settings
from molex_cli.cli import main
from molex_cli.records import read_record, write_record
from molex_cli.runtime.hardware import Hardware

ROWS = "a,b,label\n" + "".join(f"x{i} word {i * 7},y{i} more,{'yes' if i % 3 else 'no'}\n" for i in range(24))
NAME = "answers2answers2"
SMOKE = ["experiment=smoke", "hardware.threads=1", "method=lora", "train.learning_rate=0.02", "train.evaluate_every=2"]
FILES = ["task=files", "task.columns=[a,b]", f"task.name={NAME}", "log.entity=somebody", "log.tags=[ours]"]
START = "2026-01-01T00:00:00+00:00"
HOST, HOME = "host-of-ada", "home-of-ada"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """Return a function that trains with some settings once, on files that are named from the root."""
    home = tmp_path_factory.mktemp(HOME)
    (home / "rows.csv").write_text(ROWS)
    own = [f"task.files.{split}={home}/rows.csv" for split in ("train", "validation")] + [f"data_dir={home}"]

    @cache
    def make(*settings):
        outputs = home / str(len(list(home.iterdir())))
        with working_in(home) as patched:
            patched.setattr("platform.node", lambda: HOST)
            assert main(["train", *SMOKE, *FILES, *own, f"output_dir={outputs}", *settings]) == 0
        return next(outputs.glob("*-s*"))

    return make


@pytest.fixture
def trained(once, tmp_path):
    """Return a function that returns a copy of a run with some settings."""

    def copied(*settings):
        run = once(*settings)
        return Path(shutil.copytree(run, tmp_path / "outputs" / run.name))

    return copied


def pushed(run, *flags, output="sent"):
    assert main(["push", str(run), "--repo", "ada/tiny", "--degenerate", "--dry-run", output, *flags]) == 0
    return Path(output)


def card(folder):
    _, metadata, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(metadata), text


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert main(["push", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("molex: ")


def test_nothing_that_is_sent_names_the_machine_its_folders_or_its_user(trained):
    folder = pushed(trained(), "--predictions")
    names = ["README.md", "adapter-last.safetensors", "predictions-last.jsonl", "record.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    for path in folder.iterdir():
        content = path.read_bytes()
        for secret in (HOME, HOST, "outputs/", "somebody", '"ours"'):
            assert secret.encode() not in content, (path, secret)
    record = read_record(folder)
    assert "host" not in record.environment
    assert record.command == []
    assert record.settings["task"]["files"]["train"] == "rows.csv"
    assert adapter.read_about(folder / "adapter-last.safetensors").experiment.data_dir is None


def test_what_is_sent_gives_the_logits_of_the_run(trained):
    run = trained()
    theirs = pushed(run) / "adapter-last.safetensors"
    with torch.no_grad():
        own, sent = (adapter.load(path)[1].model.eval()(**batch()).logits for path in (run / theirs.name, theirs))
    assert torch.equal(own, sent)


def test_the_same_run_is_written_alike_each_time(trained):
    run = trained()
    one, other = pushed(run, "--peft", output="one"), pushed(run, "--peft", output="other")
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_the_card_has_scores_with_intervals_budget_data_and_how_to_load(trained):
    trained("seed=1"), trained("seed=2")
    run = trained()
    record = read_record(run)
    metadata, text = card(pushed(run, "--license", "mit"))
    assert metadata["library_name"] == "molex"
    assert metadata["license"] == "mit"
    assert metadata["tags"] == ["molex", "lora"]
    score = record.evaluated("last")["scores"]["accuracy"]
    (line,) = [line for line in text.splitlines() if line.startswith("| accuracy %")]
    assert f"| {100 * score:.2f} |" in line
    assert "(3)" in line
    assert "Over seeds 0, 1, 2" in text
    assert f"| trainable | {record.parameters['trainable']:,} |" in text
    assert "https://arxiv.org/abs/2106.09685" in text
    assert record.data["validation"]["fingerprint"] in text
    assert "molex predict hub:ada/tiny --file new.csv" in text
    assert 'molex_cli.load("hub:ada/tiny")' in text
    assert 'run.predict([{"a": "...", "b": "..."}])' in text


def test_one_seed_says_that_nothing_is_known_of_others(trained):
    _, text = card(pushed(trained()))
    assert "One seed" in text


def test_experts_stand_layer_by_layer(trained):
    _, text = card(pushed(trained("method=mola_inverted")))
    assert "Experts in each layer, the first one first: 2 4 6 8 (total 20)." in text
    assert "| routers |" in text
    assert "https://arxiv.org/abs/2402.08562" in text


def test_the_best_adapter_is_told_in_every_command(trained):
    run = trained()
    folder = pushed(run, "--which", "best", "--revision", "v2")
    assert (folder / "adapter-best.safetensors").is_file()
    _, text = card(folder)
    assert "molex eval hub:ada/tiny@v2 which=best" in text
    assert 'load("hub:ada/tiny@v2", which="best")' in text


def test_results_are_metadata_only_where_they_mean_something(trained):
    run = trained()
    record = read_record(run)
    record.degenerate = []
    write_record(run, record)
    metadata, _ = card(pushed(run, output="good"))
    (model,) = metadata["model-index"]
    (metric,) = model["results"][0]["metrics"]
    assert metric["type"] == "accuracy"
    assert metric["value"] == record.evaluated("last")["scores"]["accuracy"]
    record.degenerate = ["all predictions are the same"]
    write_record(run, record)
    metadata, text = card(pushed(run, output="bad"))
    assert "model-index" not in metadata
    assert "**Degenerate: all predictions are the same." in text


def test_a_run_that_should_not_be_sent_is_refused_in_one_line(trained, capsys):
    run = trained()
    record = read_record(run)
    record.degenerate, target = ["all predictions are the same"], ["--repo", "ada/tiny", "--dry-run", "sent"]
    write_record(run, record)
    line = refusal(capsys, run, *target)
    assert "got a degenerate one: all predictions are the same; --degenerate sends it" in line
    record.status = "interrupted"
    write_record(run, record)
    assert "must be a finished run, got one that is interrupted" in refusal(capsys, run, *target)
    assert f"name {run}" in refusal(capsys, run / "record.json", *target)
    assert not Path("sent").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--repo", "tiny"], "--repo must be USER/NAME"),
        (["--repo", "ada/ti ny"], "--repo must be USER/NAME"),
        (["--repo", "ada/../tiny"], "--repo must be USER/NAME"),
        (["--repo", "ada/tiny", "--revision", "a b"], "--revision must be a branch"),
        (["--repo", "ada/tiny", "--peft", "--degenerate"], "--peft must be given with a run of LoRA"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_line(flags, told, trained, capsys):
    run = trained("method=mola_inverted") if "--peft" in flags else Path("outputs/none")
    line = refusal(capsys, run, *flags, "--dry-run", "sent")
    assert line.startswith(told) or told in line
    assert not Path("sent").exists()


def test_without_a_token_nothing_is_written(trained, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("molex_cli.models.hub.connection.is_set_offline", lambda: False)
    line = refusal(capsys, trained(), "--repo", "ada/tiny")
    assert line.startswith(
        "molex push must have a token of the hub, got none; log in with hf auth login, or set HF_TOK"
    )


def test_a_secret_in_a_setting_is_not_sent(trained, capsys, monkeypatch):
    run = trained()
    monkeypatch.setenv("MY_TOKEN", NAME)
    line = refusal(capsys, run, "--repo", "ada/tiny", "--degenerate", "--dry-run", "sent")
    assert "must hold no secret" in line
    assert NAME not in line
    assert not Path("sent").exists()


def test_pefts_files_lie_beside_and_peft_opens_them(trained):
    peft = pytest.importorskip("peft")
    from molex_cli.models.loading import load

    run = trained()
    folder = pushed(run, "--peft")
    saved, ours = adapter.load(folder / "adapter-last.safetensors")
    base = load(saved.experiment.model, 2, seed=9).model
    theirs = peft.PeftModel.from_pretrained(base, folder).eval()
    with torch.no_grad():
        assert torch.allclose(theirs(**batch()).logits, ours.model.eval()(**batch()).logits, atol=1e-5)
    assert "PeftModel.from_pretrained(base, " in card(folder)[1]


def test_a_base_model_of_another_machines_folder_is_named_with_the_way_out(once, trained, capsys):
    from molex_cli.models.loading import load
    from molex_cli.models.sources import save

    first = once()
    home = first.parent.parent
    backbone = load(adapter.read_about(first / "adapter-last.safetensors").experiment.model, 2, seed=0)
    save(backbone.model, backbone.tokenizer, home / "base")
    folder = pushed(trained("model=folder", f"model.folder={home}/base"))
    assert HOME.encode() not in (folder / "adapter-last.safetensors").read_bytes()
    assert "must lie in a folder named base" in card(folder)[1]
    Path("new.csv").write_text("a,b\nsome,words\n")
    assert main(["predict", f"run={folder}", "--file", "new.csv"]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "must find its base model in base, the folder that it was trained from, got none there" in line
    Path("base").symlink_to(home / "base")
    assert main(["predict", f"run={folder}", "--file", "new.csv"]) == 0


def test_metrics_that_are_code_are_neither_sent_nor_run_for_a_run_of_the_hub(trained, tmp_path, monkeypatch):
    theirs = {"metrics": ["evaluate/evil/metric", "accuracy"], "higher_is_better": ["evaluate/evil/metric"],
              "metric_arguments": {"revision": "0" * 40}}  # fmt: skip
    run = trained()

    def hostile(settings):
        return {**settings, "task": {**settings["task"], **theirs}}

    monkeypatch.setenv("MOLEX_CACHE", str(tmp_path / "cache"))
    fetched = tmp_path / "cache" / "hub" / "ada--tiny-0123456789ab"
    fetched.mkdir(parents=True)
    adapter.rewrite(run / "adapter-last.safetensors", fetched / "adapter-last.safetensors", hostile)
    task = saved_run.about(fetched, "last").experiment.task
    assert (task.metrics, task.metric_arguments) == (["accuracy"], {})
    assert saved_run.opened(fetched, "last", Hardware()).experiment.task == task
    Path("link").symlink_to(fetched)
    assert saved_run.about(Path("link"), "last").experiment.task == task
    shutil.copy(fetched / "adapter-last.safetensors", run)
    assert saved_run.about(run, "last").experiment.task.metrics == theirs["metrics"]
    sent = adapter.read_about(pushed(run) / "adapter-last.safetensors").experiment.task
    assert (sent.metrics, sent.higher_is_better) == (["accuracy"], [])


def test_sentences_lose_their_paths_and_keep_all_else():
    record = made(
        settings={"task": {"name": "t"}},
        data={"train": {"source": "/home/ada l/x.tsv", "division": "rows of /home/ada l/x.tsv are split", "rows": 3}},
        degenerate=["and/or of https://huggingface.co/a/b in ~/data/rows.csv, 1/2"],
        environment={"host": "h", "pid": 3, "python": "3.12"},
        error={"type": "E", "message": "/home/ada", "traceback": "/home/ada"},
        attempts=[{"started": START, "status": "failed", "error": {"type": "E", "message": "/x"}}],
    )
    public = public_record(record)
    assert public.degenerate == ["and/or of https://huggingface.co/a/b in rows.csv, 1/2"]
    assert public.data == {"train": {"source": "x.tsv", "division": "rows of x.tsv are split", "rows": 3}}
    assert public.environment == {"python": "3.12"}
    assert (public.error, public.command) == (None, [])
    assert public.attempts == [{"started": START, "status": "failed"}]
    assert record.environment["host"] == "h"


def test_a_base_named_as_a_hub_id_that_is_a_folder_becomes_one():
    model = {"name": "m", "hub": "/home/ada/roberta", "folder": None}
    rows = {"hub": {"path": "~/glue"}, "official": {"train": "glue/RTE/train.tsv", "test": "/data/test.tsv"}}
    settings = {"model": model, "task": rows, "method": {"allocation": {"from_run": "/home/ada/outputs/run"}}}
    public = public_settings(settings)
    assert (public["model"]["hub"], public["model"]["folder"]) == (None, "roberta")
    assert public["task"] == {"hub": {"path": "glue"}, "official": {"train": "glue/RTE/train.tsv", "test": "test.tsv"}}
    assert public["method"]["allocation"]["from_run"] == "run"
    assert "ada" not in json.dumps(public)
    assert settings["model"]["hub"] == "/home/ada/roberta"
