"""The layers below all that trains: how many there are, what they give, and a forward pass that leaves them out.

Dimensions: B rows, T tokens, D features.
"""

import hashlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from molex_cli.models.settings import is_dropout
from molex_cli.models.structure import Backbone
from molex_cli.models.token_difference import token_difference
from molex_cli.runtime.hardware import random_stream

NOT_OF_BLOCKS = ("architectures", "id2label", "label2id", "num_labels", "problem_type", "_name_or_path")
GROWING_ROPES = ("dynamic", "longrope")  # their angles depend on the longest row of a batch
LAYERDROP = "layerdrop"  # skips whole layers, and draws for each whether it is skipped or not


class FrozenPrefix:
    """The embeddings and the lowest blocks of a model, as far as nothing in them trains."""

    def __init__(self, backbone: Backbone, routed: Container[int], inputs: Mapping[str, Tensor]) -> None:
        """Find them; `routed` layers are not among them, and `inputs` are a few rows to see what is called when."""
        self.backbone = backbone
        self._kinds: dict[nn.Module, int | None] = {}
        self._replaced: Sequence[int] = ()
        self._blocks = list(backbone.blocks)
        self._holding = [m for m in self.base.modules() if backbone.blocks in set(m.modules())]
        after = self._called_after(inputs)
        apart = {*backbone.blocks.modules(), *self._holding, *after}
        self._below = [module for module in self.base.modules() if module not in apart]
        trains_below = any(map(_trains, [*self._below, *self._holding]))
        self.num_layers = 0 if trains_below else frozen_blocks(backbone, routed)
        frozen = [module for block in self._blocks[: self.num_layers] for module in block.modules()]
        self.modules = [*self._below, *frozen] if self.num_layers else []
        """Every module of the frozen layers, those below the blocks too; none where the lowest block trains."""
        self._stand_ins = [Skipped(block, self._kinds.get(block)) for block in self._blocks]

    @property
    def base(self) -> Any:
        """Return the model without the task's head."""
        return self.backbone.model.base_model

    def hold_still(self) -> None:
        """Put the frozen layers into evaluation mode, in which they drop nothing."""
        for module in self.modules:
            module.training = False

    @torch.no_grad()
    def hidden_states(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return what the lowest layer above the frozen ones is given: [B, T, D]."""
        try:
            self._replace(range(self.num_layers, len(self._blocks)))
            return self._caught(self._blocks[self.num_layers - 1], inputs)
        finally:
            self.restore()

    @torch.no_grad()
    def output(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return what the model gives its head: [B, T, D]."""
        return self._caught(self.base, inputs)

    @contextmanager
    def skipped(self, hidden_BTD: Tensor) -> Iterator[None]:
        """Let forward passes inside take these hidden states for the output of the frozen layers."""
        self.skip(hidden_BTD)
        try:
            yield
        finally:
            self.restore()

    def skip(self, hidden_BTD: Tensor) -> None:
        """Do so until `restore`."""
        self._stand_ins[self.num_layers - 1].hidden = hidden_BTD
        self._replace(range(self.num_layers))

    def restore(self) -> None:
        """Put every block back."""
        for i in self._replaced:
            self.backbone.blocks[i] = self._blocks[i]
            self._stand_ins[i].hidden = None
        self._replaced = ()

    def unskippable(self) -> str:
        """Return why the blocks of this family cannot be left out, as far as it is seen without trying; "" if not."""
        if any(self._kinds.get(block) is None for block in self._blocks):
            return "its blocks return more than hidden states"
        if any(kind in GROWING_ROPES for kind in _rope_types(self.backbone.model.config)):
            return "what its position embeddings give depends on the longest row of a batch"
        skips = {name: value for name, value in self.backbone.model.config.to_dict().items() if LAYERDROP in name}
        return "it skips layers at random" if any(skips.values()) else ""

    def is_random(self, inputs: Mapping[str, Tensor]) -> bool:
        """Return whether the frozen layers, in the mode that they are in, give other outputs for the same rows."""
        with random_stream(0, "dropout"):
            one = self.hidden_states(inputs)
        with random_stream(1, "dropout"):
            other = self.hidden_states(inputs)
        return not token_difference(one, other, inputs["attention_mask"]) <= 1e-3

    def identity(self) -> str:
        """Return a hash of all weights of the frozen layers and of the settings that say what is done with them."""
        about = {name: value for name, value in self.backbone.model.config.to_dict().items() if not is_dropout(name)}
        attention = getattr(self.backbone.model.config, "_attn_implementation", None)
        known = {name: value for name, value in about.items() if name not in NOT_OF_BLOCKS}
        digest = hashlib.sha256(json.dumps([self.num_layers, attention, known], sort_keys=True, default=str).encode())
        names = {module: name for name, module in self.base.named_modules()}
        for module in [*self._holding, *self.modules]:
            for name, tensor in sorted(_tensors(module).items()):
                digest.update(f"{names[module]}.{name} {tensor.dtype} {list(tensor.shape)} ".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _caught(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the first output of a module in a pass of the whole model, which computes the logits of one token."""
        caught: list[Tensor] = []

        def catch(module: nn.Module, args: Any, output: Any) -> None:
            caught.append(output if isinstance(output, Tensor) else output[0])

        hooks = [module.register_forward_hook(catch)]
        if self.backbone.is_language_model and (logits := self.backbone.model.get_output_embeddings()) is not None:
            hooks.append(logits.register_forward_pre_hook(lambda _, args: (args[0][:, :1], *args[1:])))
        try:
            self.backbone.model(**inputs)  # a head may give its base arguments of its own
        finally:
            for hook in hooks:
                hook.remove()
        return caught[0]

    def _replace(self, layers: Sequence[int]) -> None:
        self._replaced = layers
        for i in layers:
            self.backbone.blocks[i] = self._stand_ins[i]

    @torch.no_grad()
    def _called_after(self, inputs: Mapping[str, Tensor]) -> list[nn.Module]:
        """Return the modules that a forward pass first calls from the last block on; note what the blocks return."""
        order: dict[nn.Module, None] = {}
        hooks = [m.register_forward_pre_hook(lambda m, _: order.setdefault(m)) for m in self.base.modules()]

        def note(block: nn.Module, args: Any, output: Any) -> None:
            self._kinds.setdefault(block, _further(output))

        hooks += [block.register_forward_hook(note) for block in self._blocks]
        try:
            self.backbone.model(**inputs)  # the whole: a model whose weights are sharded cannot be called in part
        finally:
            for hook in hooks:
                hook.remove()
        called = list(order)
        return called[called.index(self._blocks[-1]) :] if self._blocks[-1] in order else []


class Skipped(nn.Module):
    """Stands where a block is and computes nothing: it returns what it is given, or the hidden states it holds."""

    def __init__(self, block: nn.Module, further: int | None) -> None:
        super().__init__()
        self.hidden: Tensor | None = None
        self._further = further
        self._block = (block,)  # a tuple registers nothing

    def __getattr__(self, name: str) -> Any:
        """Return what the block has: models ask their blocks for attributes of their own."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_block"][0], name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return hidden states [B, T, D] in the form in which the block returns its own."""
        output = hidden_states if self.hidden is None else self.hidden
        return output if not self._further else (output, *(None for _ in range(self._further - 1)))


def frozen_blocks(backbone: Backbone, routed: Container[int]) -> int:
    """Return how many blocks lie below the first that trains or is routed."""
    trained = (i for i, block in enumerate(backbone.blocks) if i in routed or _trains(block, recurse=True))
    return next(trained, backbone.num_layers)


def _trains(module: nn.Module, *, recurse: bool = False) -> bool:
    return any(p.requires_grad for p in module.parameters(recurse=recurse))


def _further(output: Any) -> int | None:
    """Return the length of the tuple that a block returned, 0 for a tensor; None where more than None follows it."""
    if isinstance(output, tuple):
        return len(output) if all(each is None for each in output[1:]) else None
    return 0 if isinstance(output, Tensor) else None


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's own weights and buffers, and the scales of those that are quantised."""
    tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    for name, tensor in list(tensors.items()):
        if (state := getattr(tensor, "quant_state", None)) is not None:  # as bitsandbytes keeps its 4 bits
            scales = state.as_dict(packed=True)
            tensors |= {f"{name}.{part}": value for part, value in scales.items()}
    return tensors


def _rope_types(config: Any) -> Iterator[Any]:
    """Yield the kinds of rotary position embeddings that a model's configuration names."""
    for each in (getattr(config, "rope_scaling", None), getattr(config, "rope_parameters", None)):
        if isinstance(each, dict):  # either of all layers, or one for each kind of layer
            for about in (each, *(value for value in each.values() if isinstance(value, dict))):
                yield about.get("rope_type") or about.get("type")
