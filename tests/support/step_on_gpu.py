"""Does a training step on a GPU that is not there: tensors have a device, a shape and a type, and no content.

    cd tests; python -m support.step_on_gpu METHOD ...

torch names a device of one's own only once in a process, for all that follows. Where a tensor of the CPU meets one of
the GPU, it raises. Prints for each method the devices and types of what is trained.
"""

import sys
from types import SimpleNamespace
from typing import Any

import torch
from conftest import composed
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration

from molex_cli.data.batches import Microbatch
from molex_cli.methods.placement import lay_out
from molex_cli.models.loading import skeleton
from molex_cli.objectives import build_objective, head_outputs
from molex_cli.training import loop


class Module(backend_registration._DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Return the types of autocast, for which there are no kernels: it stays off."""
        return [torch.bfloat16]


backend_registration._setup_privateuseone_for_python_backend("gpu", backend_module=Module())
GPU = torch.device("gpu", 0)
of_torch = torch.tensor


def tensor(data: Any, *, device: Any = "cpu", **kwargs: Any) -> torch.Tensor:
    """Return a tensor of the same shape and type: torch would copy the content of this one."""
    known = of_torch(data, **kwargs)
    return torch.empty(known.shape, dtype=known.dtype, device=device)


def batch() -> dict[str, torch.Tensor]:
    """Return two rows of the CPU."""
    ids = torch.ones(2, 12, dtype=torch.long)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.ones(2, dtype=torch.long)}


def step(*settings: str) -> set[str]:
    """Do forward pass, backward pass and update as the loop does, then a forward pass that scores."""
    experiment = composed(settings)
    objective = build_objective(experiment.task, experiment.model, ["no", "yes"])
    with FakeTensorMode(allow_non_fake_inputs=True):
        backbone = skeleton(experiment.model, head_outputs(experiment.task, experiment.model, ["no", "yes"]), "gpu")
        backbone.model.config.pad_token_id, backbone.model.config.use_cache = 0, False
        adapted = experiment.method.inject(backbone)
        adapted.assume_choices()
        lay_out(adapted, experiment.hardware)
        training = loop.Training.of(adapted, experiment.train, 1e-3)
        accelerator: Any = SimpleNamespace(device=GPU, backward=lambda loss: loss.backward())
        passes = loop._backward(training, objective, [Microbatch(0, 1, [0, 1])], [batch()], 0, accelerator)
        loop._update(training, passes, 1.0, 1.0, GPU)
        with torch.no_grad():
            adapted.model.eval()(**{name: each.to(GPU) for name, each in batch().items()})
    return {f"{each.device} {each.dtype}" for each in adapted.trainable().values()}


torch.tensor, FakeTensor.tolist = tensor, lambda self: [1.0] * self.numel()
for method in sys.argv[1:]:
    print(method, *step("model=tiny_llama", "model.config.num_hidden_layers=3", f"method={method}"))
