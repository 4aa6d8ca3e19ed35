"""What a method does not say about itself is refused by its name, and nothing is written."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from molex_cli import records
from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.config import command_line, schema
from molex_cli.methods.base import METHODS, Adapted, Group, Method, freeze
from molex_cli.methods.lora import LoRA, LowRank

LABELS = ["entailment", "not_entailment"]


class Scaled(nn.Module):
    """A linear whose output is scaled, in a module that nobody knows."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.scale = nn.Parameter(torch.full((base.out_features,), 2.0))

    def forward(self, x):
        return self.base(x) * self.scale


@dataclass(kw_only=True)
class Silent(Method):
    """A method that says how it is put in, and nothing else."""

    name: str = "silent"
    display_name: str = "Silent"
    learning_rate: float = 1e-3

    def inject(self, backbone):
        scales = {}
        for linear in backbone.targets(["query"]):
            module = Scaled(linear.module)
            backbone.replace(linear, module)
            scales[f"{linear.name}.scale"] = module.scale
        return Adapted(backbone=backbone, groups=freeze(backbone, Group(name="scales", parameters=scales)))


@dataclass(kw_only=True)
class Forgetful(LowRank):
    """A method that adds to LoRA and merges LoRA's part alone."""

    name: str = "forgetful"
    display_name: str = "Forgetful"
    learning_rate: float = 1e-3

    def inject(self, backbone):
        made = LoRA(targets=["query"]).inject(backbone)
        for linear in backbone.targets(["value"]):
            module = Scaled(linear.module)
            backbone.replace(linear, module)
            made.groups[0].parameters[f"{linear.name}.scale"] = module.scale
        return made


def saved_run(experiment, method):
    """Return the folder of a saved run of a method."""
    chosen = replace(experiment("model=tiny_bert"), method=method)
    folder = Path("run")
    folder.mkdir(exist_ok=True)
    adapter.save(folder / "adapter-last.safetensors", adapter.adapt(chosen, LABELS), chosen, LABELS, step=1)
    return chosen, folder


def test_a_merge_that_leaves_a_module_of_the_methods_behind_writes_nothing(experiment, monkeypatch, capsys):
    """A reader would find random weights in the place of those under other names."""
    monkeypatch.setitem(METHODS, "forgetful", Forgetful)
    saved_run(experiment, Forgetful())
    assert main(["merge", "run", "--output", "new"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "must be given a run whose method leaves a plain model behind, got forgetful" in line
    assert not Path("new").exists()


@pytest.mark.parametrize("name", command_line.options("method"))
def test_every_method_is_merged_into_a_plain_model_or_refused(experiment, capsys, name):
    if "peft" in name:
        pytest.importorskip("peft")
    saved_run(experiment, experiment("model=tiny_bert", f"method={name}").method)
    code = main(["merge", "run", "--output", "new"])
    if name.startswith("mol") or name == "mixlora":
        assert code == 2
        assert "molex merge must be given a run without routers" in capsys.readouterr().err
        assert not Path("new").exists()
    else:
        assert code == 0
        _, about = AutoModelForSequenceClassification.from_pretrained("new", output_loading_info=True)
        assert not about["missing_keys"]
        assert not about["unexpected_keys"]


@pytest.fixture
def run(experiment, monkeypatch):
    """Return the folder of a saved run of such a method."""
    monkeypatch.setitem(METHODS, "silent", Silent)
    chosen, folder = saved_run(experiment, Silent())
    record = records.Record(name="silent", variant="x", seed=0, status="finished", settings=schema.as_data(chosen))
    records.write_record(folder, record)
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("merge run --output new", "molex merge must be given a run whose method says how it is merged, got silent"),
        ("export run --output new", "molex export must be given a run of LoRA, "),
        ("experts run --ablate layers", "must be given a run whose method says what its experts or guests are"),
        ("experts run --ablate experts", "must be given a run whose method says what its experts or guests are"),
    ],
)
def test_what_a_method_does_not_say_is_refused_by_its_name(run, capsys, arguments, words):
    pytest.importorskip("peft")
    assert main(arguments.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "got silent" in line
    assert sorted(path.name for path in Path().iterdir() if path.name != "cache") == ["run"]


def test_an_adapter_of_low_rank_factors_without_their_scale_is_refused_by_name(run, capsys):
    tensors = {f"bert.encoder.layer.0.x.{name}": torch.zeros(2, 1, 3) for name in ("down", "up")}
    file = run / "adapter-last.safetensors"
    from safetensors import safe_open

    with safe_open(file, framework="pt") as saved:
        about = saved.metadata()
    adapter.write_tensors(file, tensors, about)
    assert main(["experts", "run"]) == 2
    assert "must be of a method that says how its updates are scaled, got silent" in capsys.readouterr().err


def test_such_a_method_stays_in_the_bench_with_itself_alone(run):
    method = Silent()
    assert method.with_dropout(0.5) is method
    assert method.with_experts(2.0, 1) is None
    assert list(method.bench_arms()) == ["silent"]
    assert method.low_rank() is None
