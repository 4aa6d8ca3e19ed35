"""MoLEx across processes: a fresh one that loads what another saved, and two that train together."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import batch
from support.mixing import spread
from two_processes import SIZE, built, measured

from molex_cli.checkpoints import adapter

HERE = Path(__file__).parent.parent
LOAD = """
import json, sys, torch
from pathlib import Path
from molex_cli.checkpoints import adapter
torch.set_num_threads(1)
data = torch.load(sys.argv[1])
for path in sys.argv[2:]:
    saved, made = adapter.load(Path(path))
    print(json.dumps(made.model.eval()(**data).logits.tolist()))
"""


def test_a_fresh_process_loads_identical_logits_without_any_setting(experiment, tmp_path):
    data = {name: tensor for name, tensor in batch(num_rows=6).items() if name != "labels"}
    torch.save(data, tmp_path / "batch.pt")
    expected = {}
    for model in ("tiny_bert", "tiny_gpt2", "tiny_llama"):
        settings = experiment(
            "method=molex",
            f"model={model}",
            "method.gate=cosine",
            "method.gate_per_layer=true",
            "method.guests=[0,2,3]",
            "method.layers=[1,2,3]",
            "method.alpha_per_layer=true",
            "method.router_gradient=gate",
        )
        made = spread(adapter.adapt(settings, ["no", "yes"]))
        path = tmp_path / f"{model}.safetensors"
        adapter.save(path, made, settings, ["no", "yes"], step=1)
        expected[str(path)] = made.model(**data).logits.tolist()
    command = [sys.executable, "-c", LOAD, str(tmp_path / "batch.pt"), *expected]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()[-3:]] == list(expected.values())


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Return what each of two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*command, str(HERE / "two_processes.py"), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


def test_two_processes_train_molex_as_one_does(ranks):
    """Every sequence chooses for itself, so it does not matter which process has it."""
    made = built("molex")
    whole = measured(made, made.model, batch(**SIZE))
    torch.testing.assert_close(torch.cat([rank["molex"]["logits"] for rank in ranks]), whole["logits"])
    for rank in ranks:
        for name, gradient in whole["gradients"].items():
            torch.testing.assert_close(rank["molex"]["gradients"][name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_processes_with_sharded_blocks_call_the_guests_that_any_of_them_chose(ranks):
    made = built("molex")
    whole = measured(made, made.model, batch(**SIZE))
    assert any(sum(share > 0 for share in usage) > 1 for usage in whole["usage"].values())
    torch.testing.assert_close(torch.cat([rank["sharded"]["logits"] for rank in ranks]), whole["logits"])
    for name, gradient in whole["gradients"].items():
        summed = sum(rank["sharded"]["gradients"].get(name, torch.zeros_like(gradient)) for rank in ranks)
        torch.testing.assert_close(summed / 2, gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_each_process_of_the_published_variant_votes_over_its_own_rows(ranks):
    """As published: one vote a device, so predictions depend on how a batch is split over devices."""
    data = batch(**SIZE)
    own = []
    for number, rank in enumerate(ranks):
        made = built("molex_paper")
        alone = measured(made, made.model, {name: t[number * 4 : number * 4 + 4] for name, t in data.items()})
        torch.testing.assert_close(rank["molex_paper"]["logits"], alone["logits"])
        own.append(alone["usage"])
    made = built("molex_paper")
    whole = measured(made, made.model, data)
    together = {layer: [(a + b) / 2 for a, b in zip(own[0][layer], own[1][layer], strict=True)] for layer in own[0]}
    assert all(rank["molex_paper"]["usage"] == together for rank in ranks)
    assert together != whole["usage"]
