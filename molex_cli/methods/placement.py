"""How an adapted model lies on its device: formats of frozen weights, recomputation, shards, compilation."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from molex_cli.errors import ConfigError
from molex_cli.methods.base import Adapted
from molex_cli.runtime.extras import install
from molex_cli.runtime.hardware import Base, Hardware

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import nn

WHOLE_SINCE = "2.11"
"""The first torch whose compiled gradients of low-rank experts were seen to be right; before, they stay outside."""


def place(adapted: Adapted, settings: Hardware, accelerator: "Accelerator") -> None:
    """Put the model where and how the settings say; what the method trains stays whole and in float32."""
    from molex_cli.runtime import distributed

    lay_out(adapted, settings)
    if settings.shard and distributed.world_size() > 1:
        _shard(adapted, accelerator.device)
    accelerator.prepare_model(adapted.model, evaluation_mode=True)
    if settings.compile:
        _compile(adapted)


def lay_out(adapted: Adapted, settings: Hardware, four_bit: "Callable[[nn.Linear], nn.Module] | None" = None) -> None:
    """Turn on recomputation and change the frozen weights' format; `four_bit` stands in for bitsandbytes' linears."""
    if settings.activation_checkpointing:
        recompute(adapted.model)
    if settings.base is Base.bf16:
        _to_bf16(_frozen(adapted))
    if settings.base is Base.nf4:
        _to_nf4(adapted, four_bit or _of_bitsandbytes())


def recompute(model: Any, **how: Any) -> None:
    """Turn on recomputation of a transformers model, with more arguments of torch's `checkpoint`."""
    # transformers has renamed it, and warns.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False, **how})
    # transformers gives the embeddings a gradient, as re-entrant recomputation needs it: all layers, those below
    # the first trained tensor too, would be computed again and backward for nothing.
    model.disable_input_require_grads()


def _compile(adapted: Adapted) -> None:
    """Compile the forward pass as a whole; the model's hooks, which open and close what routers count, stay outside."""
    import torch

    from molex_cli.layers.experts import LowRankExperts, stacks_in

    model = adapted.model
    if torch.torch_version.TorchVersion(torch.__version__) < WHOLE_SINCE:
        for module in model.modules():
            if isinstance(module, LowRankExperts):
                module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
    stacks = stacks_in(model)

    def stack(*_: Any) -> None:
        for each in stacks:
            each.tensor()

    model.register_forward_pre_hook(stack)  # compiled code cannot notice that a parameter has moved
    torch.compiler.reset()  # what was learned of another model's numbers misleads
    model.forward = torch.compile(model.forward)


def _to_bf16(weights: "Iterable[nn.Parameter]") -> None:
    import torch

    for parameter in weights:
        parameter.data = parameter.data.to(torch.bfloat16)


def _to_nf4(adapted: Adapted, four_bit: "Callable[[nn.Linear], nn.Module]") -> None:
    """Keep the frozen linears of the blocks in 4 bits (QLoRA, arXiv 2305.14314), all else that is frozen in bf16."""
    from torch import nn

    frozen = set(_frozen(adapted))
    small: set[Any] = set()
    for block in adapted.backbone.blocks:
        for module in list(block.modules()):
            for name, child in module.named_children():
                if type(child) is nn.Linear and child.weight in frozen:
                    made = four_bit(child)
                    small |= set(made.parameters())
                    setattr(module, name, made)
    _to_bf16(parameter for parameter in _frozen(adapted) if parameter not in small)


def _of_bitsandbytes() -> "Callable[[nn.Linear], nn.Module]":
    """Return what makes a linear of 4 bits out of another."""
    import torch

    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ImportError:
        raise ConfigError(f"hardware.base=nf4 must have bitsandbytes, got none; {install('quantized')}") from None

    def four_bit(linear: "nn.Linear") -> "nn.Module":
        has_bias = linear.bias is not None
        made = Linear4bit(linear.in_features, linear.out_features, has_bias, torch.bfloat16, quant_type="nf4")
        made.weight = Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
        made.bias = linear.bias
        return made

    return four_bit


def _shard(adapted: Adapted, device: "torch.device") -> None:
    """Divide the frozen weights, block by block, among the processes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from molex_cli.runtime import distributed

    whole: set[Any] = set(adapted.trainable().values())
    if not list(_frozen(adapted)):
        raise ConfigError("hardware.shard must have frozen weights to divide, got none; set hardware=ddp")
    for parameter in whole:
        parameter.data = parameter.data.to(device)
    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    for part in adapted.shard_parts() if adapted.shard_parts else adapted.backbone.blocks:
        fully_shard(part.to(device), mesh=mesh, ignored_params=whole)
    fully_shard(adapted.model, mesh=mesh, ignored_params=whole)
    adapted.sharded = True


def _frozen(adapted: Adapted) -> "list[nn.Parameter]":
    """Return the matrices that are not trained; biases and norms are small, and stay in float32."""
    return [p for p in adapted.model.parameters() if not p.requires_grad and p.is_floating_point() and p.ndim > 1]
