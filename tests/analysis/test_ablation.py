"""`molex experts` on saved runs: what it prints and draws, and what is lost without an expert."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import batch
from support.runs import working_in

from molex_cli.analysis import ablation
from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.layers.experts import LowRankExperts
from molex_cli.methods.base import low_rank_scale
from molex_cli.statistics import expert_similarity

TRAIN = ["train", "experiment=smoke", "hardware.threads=1", "train.learning_rate=0.02", "train.max_steps=12"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folders of three runs: two of MoLA, one of MoLEx."""
    made = tmp_path_factory.mktemp("runs")
    with working_in(made):
        for method in ("mola_inverted", "mola_triangle", "molex"):
            assert main([*TRAIN, f"method={method}", "train.epochs=9"]) == 0
    return {path.name.split("-")[2]: path for path in made.glob("outputs/builtin*")}


def told(capsys, *arguments):
    assert main(["experts", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_redundancy_of_a_run_is_that_of_its_model(folders, capsys):
    (found,) = told(capsys, folders["mola_inverted"])
    _, made = adapter.load(folders["mola_inverted"] / "adapter-last.safetensors")
    modules = {n: m for n, m in made.model.named_modules() if isinstance(m, LowRankExperts)}
    assert len(found["linears"]) == len(modules)
    for line in found["linears"]:
        name = next(n for n in modules if n.endswith(f".{line['layer']}.{line['module']}"))
        up, down = modules[name].up.detach(), modules[name].down.detach()
        dense = 2.0 * up.transpose(1, 2) @ down
        pairs = torch.triu_indices(len(dense), len(dense), 1)
        apart = (dense[pairs[0]] - dense[pairs[1]]).flatten(1).norm(dim=1)
        assert line["distance"] == pytest.approx(float(apart.mean()), rel=1e-4)
    assert found["experts_per_layer"] == [2, 4, 6, 8]
    assert all(-1 <= value <= 1 for value in found["trend"].values())


def test_several_runs_stand_side_by_side(folders, capsys):
    assert main(["experts", str(folders["mola_inverted"]), str(folders["mola_triangle"]), "--modules"]) == 0
    shown = capsys.readouterr().out
    assert "attention.self.query" in shown
    assert shown.count("Spearman's correlation with depth: mean |dW| ") == 2
    assert "builtin/nli mola_triangle tiny_bert s0" in shown.split("mean cosine")[-1]


def test_the_start_has_other_inputs_and_no_outputs(folders, capsys):
    (found,) = told(capsys, folders["mola_inverted"], "--start")
    assert found["start"]["input_overlap"].keys() == found["layers"]["input_overlap"].keys()
    assert found["start"]["input_overlap"] != found["layers"]["input_overlap"]


def test_heat_maps_are_written_as_png_and_svg(folders, tmp_path, capsys):
    assert main(["experts", *map(str, folders.values()), "--plots", "figures"]) == 0
    found = sorted(path.name.split("-s0-")[1] for path in Path("figures").iterdir() if "mola_inverted" in path.name)
    assert found == [f"{name}.{end}" for name in ("cosine", "distance", "usage") for end in ("png", "svg")]
    assert all(path.stat().st_size > 2000 for path in Path("figures").iterdir())
    assert len([path for path in Path("figures").iterdir() if "molex" in path.name]) == 2


def test_the_page_of_a_comparison_shows_redundancy_too(folders):
    assert main(["compare", *map(str, folders.values()), "--html", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert page.count("mean distance between two experts") == 4  # caption and label of a picture for each of two arms
    assert "layer 3, attention.self.query: " in page


@pytest.mark.parametrize(("method", "what", "count"), [("mola_inverted", "experts", 20), ("molex", "layers", 4)])
def test_each_part_is_left_out_once_and_the_run_is_whole_again(folders, capsys, method, what, count):
    (found,) = told(capsys, folders[method], "--ablate", what)
    losses = found["ablation"]["without"]
    assert len(losses) == count
    record = json.loads((folders[method] / "record.json").read_text())
    assert found["ablation"]["score"] == record["scores"]["last"]["scores"]["accuracy"]
    for loss in losses:
        if loss["low"] is not None:  # where nothing varies there is nothing to judge by
            assert loss["low"] <= loss["change"] <= loss["high"]
        assert loss["score"] - found["ablation"]["score"] == pytest.approx(loss["change"])


def test_leaving_out_an_expert_that_nobody_chose_changes_nothing_exactly(experiment):
    settings = experiment("method=mola", "method.allocation.layers=[4,4,4,4]")
    made = adapter.adapt(settings, ["no", "yes"])
    layers = settings.method.experts(made)
    with torch.no_grad():
        for name, p in made.trainable().items():
            if name.endswith("up"):
                p.normal_(0, 0.5)
            if name.endswith("router"):
                p.zero_()  # of equal logits the same two are always chosen
    made.model.eval()
    data = batch()
    with torch.no_grad():
        whole = made.model(**data).logits
        usage = made.take_routing()["1"]["usage"]
        assert sorted(usage) == [0, 0, 0.5, 0.5]
        with layers[1].without(usage.index(0)):
            assert torch.equal(made.model(**data).logits, whole)
        with layers[1].without(usage.index(0.5)):
            assert not torch.equal(made.model(**data).logits, whole)
        assert torch.equal(made.model(**data).logits, whole)
    assert ablation.parts(layers, each_expert=True) == [(layer, e) for layer in range(4) for e in range(4)]


def test_all_experts_left_out_is_the_base_alone(experiment):
    settings = experiment("method=mola_inverted")
    made = adapter.adapt(settings, ["no", "yes"])
    base = made.model.eval()(**batch()).logits
    with torch.no_grad():
        for name, p in made.trainable().items():
            if name.endswith("up"):
                p.normal_(0, 0.5)
    with contextlib.ExitStack() as left_out:
        for layer in settings.method.experts(made).values():
            left_out.enter_context(layer.without(None))
        torch.testing.assert_close(made.model(**batch()).logits, base)


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("molex", ["--ablate", "experts"], "--ablate must be layers for MoLEx"),
        ("lora", [], "must have layers of several experts, got none in"),
        ("lora", ["--which", "first"], "--which must be one of last, best, got first"),
    ],
)
def test_what_cannot_be_analysed_is_refused_in_one_line(folders, capsys, method, arguments, words):
    if method == "lora":
        assert main(["train", "experiment=smoke", "method=lora"]) == 0
        folders = {"lora": next(Path("outputs").glob("*lora*"))}
    capsys.readouterr()
    assert main(["experts", str(folders[method]), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_damaged_adapter_is_refused(folders, tmp_path, capsys):
    shutil.copytree(folders["mola_inverted"], tmp_path / "run")
    (tmp_path / "run/adapter-last.safetensors").write_bytes(b"no")
    assert main(["experts", str(tmp_path / "run")]) == 2
    assert "must be an adapter that molex saved" in capsys.readouterr().err
    with pytest.raises(Exception, match="does not exist"):
        expert_similarity.of_run(tmp_path / "nowhere.safetensors", low_rank_scale)
