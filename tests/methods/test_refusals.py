"""What a method does not say about itself is refused by its name, and nothing is written."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from molex_cli import records
from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.config import schema
from molex_cli.methods.base import METHODS, Adapted, Group, Method, freeze

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


@pytest.fixture
def run(experiment, monkeypatch):
    """Return the folder of a saved run of such a method."""
    monkeypatch.setitem(METHODS, "silent", Silent)
    chosen = replace(experiment("model=tiny_bert"), method=Silent())
    folder = Path("run")
    folder.mkdir()
    adapter.save(folder / "adapter-last.safetensors", adapter.adapt(chosen, LABELS), chosen, LABELS, step=1)
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
