"""One of two processes of `test_molex_processes.py`: half of a batch through a model that both share, on gloo."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from conftest import batch
from support.mixing import spread
from torch.nn.parallel import DistributedDataParallel

from molex_cli.checkpoints import adapter
from molex_cli.config import command_line, overrides
from molex_cli.methods.placement import _shard

SIZE = {"num_rows": 8, "length": 20}


def built(method):
    line = command_line.CommandLine(overrides=["experiment=smoke", f"method={method}", "method.alpha=0.6"])
    return spread(adapter.adapt(overrides.checked(line), ["no", "yes"]), scale=0.1)


def measured(made, model, data):
    """Return logits, gradients and the guests' shares of one training step without dropout."""
    output = model(**data)
    output.loss.backward()
    gradients = {name: p.grad for name, p in made.trainable().items() if p.grad is not None}
    usage = {layer: figures["usage"] for layer, figures in made.take_routing().items()}
    return {"logits": output.logits.detach(), "gradients": gradients, "usage": usage}


def main(folder):
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    half = {name: tensor[rank * 4 : rank * 4 + 4] for name, tensor in batch(**SIZE).items()}
    found = {}
    for method in ("molex", "molex_paper"):
        made = built(method)
        found[method] = measured(made, DistributedDataParallel(made.model, find_unused_parameters=True), half)
    made = built("molex")
    _shard(made, torch.device("cpu"))
    found["sharded"] = measured(made, made.model, half)
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
