"""Loss and perplexity on a text: the plain formula, a base model that is bare, and no word of what comes."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.runs import working_in

from molex_cli.checkpoints import adapter, saved_run
from molex_cli.cli import main
from molex_cli.evaluators import text
from molex_cli.models.loading import load
from molex_cli.runtime.hardware import Hardware

METHODS = ("lora", "mola_inverted", "molex", "full")
WORDS = "The rain falls on stone and sand, and what is left of it runs to the sea. " * 12
TRAIN = [
    "train",
    "experiment=smoke",
    "hardware.threads=1",
    "model=tiny_llama",
    "train.max_length=64",
    "train.learning_rate=0.05",
    "task.language.max_new_tokens=4",
    "task.language.beams=1",
    "task.metrics=[nist]",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with a run of each method, and a text."""
    folder = tmp_path_factory.mktemp("made")
    with working_in(folder):
        Path("wiki.txt").write_text(WORDS)
        Path("rows.csv").write_text("\n".join(["meaning,text", *(f"a thing {i},It is number {i}." for i in range(8))]))
        files = ["task.files.train=rows.csv", "task.files.validation=rows.csv", "task.columns=[meaning]"]
        own = ["task=files", "task.kind=generation", "task.label=text", "task.language.prompt='Say {meaning}:'", *files]
        for method in METHODS:
            assert main([*TRAIN, *own, f"method={method}"]) == 0
    return folder


@pytest.fixture
def runs(made, tmp_path):
    """Return the folder of each method's run, copied to where the test works."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return {method: next(Path("outputs").glob(f"*-{method}-*-s0")) for method in METHODS}


def scored(capsys, *arguments):
    capsys.readouterr()
    assert main(["eval", "--json", "text=wiki.txt", *arguments]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)[0]


@torch.no_grad()
def plainly(model, ids, window, stride):
    """Return the mean negative log-likelihood of a token, one window after another, as transformers computes it."""
    total, count = 0.0, 0
    for begin in range(0, len(ids) - (window - stride), stride):
        row = torch.tensor([ids[begin : begin + window]])
        labels = row.clone()
        labels[:, : window - stride] = -100
        scored = row.shape[1] - (window - stride)
        total += float(model(input_ids=row, labels=labels).loss.double()) * scored
        count += scored
    return total / count, count


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_is_the_plain_formula_and_the_base_a_model_without_any_method(method, runs, capsys):
    result = scored(capsys, f"run={runs[method]}", "text_stride=48")
    saved, adapted = adapter.load(runs[method] / "adapter-last.safetensors")
    bare = load(saved.experiment.model, None, saved.experiment.seed)
    ids = bare.tokenizer(WORDS)["input_ids"][:-1]  # the last one ends a text
    base, count = plainly(bare.model.eval(), ids, 64, 48)
    own, _ = plainly(adapted.model.eval(), ids, 64, 48)
    scores = result["scores"]
    assert result["tokens"] == count == len(ids) - 16
    assert scores["base_loss"] == pytest.approx(base, abs=1e-6)
    assert scores["loss"] == pytest.approx(own, abs=1e-6)
    assert abs(own - base) > 1e-3
    assert scores["perplexity"] == pytest.approx(math.exp(own), rel=1e-5)
    assert result["increase"]["estimate"] == pytest.approx(own - base, abs=2e-6)
    assert result["increase"]["low"] < result["increase"]["estimate"] < result["increase"]["high"]


@pytest.mark.parametrize("method", METHODS)
def test_neither_the_batch_nor_what_comes_later_changes_a_loss(method, runs, capsys):
    one, many = (scored(capsys, f"run={runs[method]}", f"train.eval_batch_size={size}") for size in (1, 16))
    for name, score in one["scores"].items():
        assert many["scores"][name] == pytest.approx(score, rel=1e-6), name
    changed = ids_of(runs[method])
    first = losses_of(runs[method], changed)
    changed[-1] = changed[-1] % 200 + 7
    assert losses_of(runs[method], changed)[:-1] == pytest.approx(first[:-1], abs=1e-6)


def ids_of(run):
    return load(saved_run.about(run, "last").experiment.model, None, 0).tokenizer(WORDS)["input_ids"][:128]


def losses_of(run, ids):
    """Return the loss of each of the tokens behind a context of 64, each scored as the last of what is known."""
    opened = saved_run.opened(run, "last", Hardware())
    rows = [ids[:end] for end in range(66, 70)] + [ids]
    encoded = text.Encoded(
        ids=list(map(str, range(len(rows)))),
        labels=[None] * len(rows),
        tokens=np.array([token for row in rows for token in row], dtype=np.int32),
        types=np.array([], dtype=np.int8),
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]),
        starts=np.full(len(rows), 64),
    )
    return text.losses(opened.adapted, encoded, 8, opened.device)[:, 0].tolist()


def test_runs_are_compared_by_what_they_forgot(runs, capsys):
    assert main(["eval", "outputs", "text=wiki.txt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(METHODS)
    assert all("  wiki.txt  loss " in line and "  increase " in line for line in lines)
    assert len({line.partition("loss ")[2].partition("base ")[2].partition(")")[0] for line in lines}) == 1
    assert (
        main(["compare", "outputs", "--evaluation", "wiki.txt", "--metric", "loss_increase", "--format", "json"]) == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert {cell["metric"] for cell in report["cells"]} == {"loss_increase"}
    assert report["effects"][0]["detail"].startswith("over examples of one seed")
    sound = [cell for cell in report["cells"] if "degenerate" not in cell["notes"]]
    best = min(sound, key=lambda cell: cell["mean"])
    assert {effect["other"] for effect in report["effects"]} == {best["name"]}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["text=nothing.txt"], "text must be a file, got nothing.txt, which does not exist"),
        (["text=empty.txt"], "text must hold a text, got nothing in empty.txt"),
        (["text=bytes.txt"], "text must be in UTF-8, got byte 0xff in bytes.txt"),
        (["text=outputs"], "text must be a file that can be read, got outputs: a folder is there"),
        (["text=short.txt"], "text must have more than 32 tokens, got 4 in short.txt; lower train.max_length"),
        (["text=wiki.txt", "text_stride=64"], "text_stride must be from 1 to 63, below train.max_length, got 64"),
        (["text=wiki.txt", "train.max_length=999"], "train.max_length must fit tiny_llama, at most 256, got 999"),
        (["text=wiki.txt", "noise=[1]"], "noise must be left out beside text, got a value; the text is what is scored"),
        (["text_stride=8"], "text_stride must come with text=FILE, got it alone"),
    ],
)
def test_a_text_that_cannot_be_scored_is_one_line(settings, told, runs, capsys):
    Path("empty.txt").write_text("\n")
    Path("bytes.txt").write_bytes(b"ab\xff")
    Path("short.txt").write_text("abc")
    capsys.readouterr()
    assert main(["eval", f"run={runs['lora']}", *settings]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
