"""The parts of a transformer that methods work on, found by structure."""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import regex
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.pytorch_utils import Conv1D

from molex_cli.errors import MethodError, ModelError, nearest

ALL_LINEAR = "all-linear"
SECONDS = 5.0  # for one pattern; some take longer than the universe, and those of an adapter are not one's own
# Sibling linears that attention and gated MLPs apply to one and the same tensor.
SHARED_INPUTS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("gate_proj", "up_proj"),
)
# Linears that hold several of these, and the families whose parts lie one after the other, equally wide.
JOINT = ("c_attn", "query_key_value", "qkv_proj", "Wqkv", "qkv", "in_proj", "att_proj")
IN_THIRDS, QUERY_KEY_VALUE = ("gpt2", "openai-gpt"), ("query", "key", "value")


class Linear(NamedTuple):
    """A linear inside a block: its full name, the index of its block, the module."""

    name: str
    layer: int
    module: nn.Linear | Conv1D

    @property
    def parent(self) -> str:
        """Return the full name of the module that holds this linear."""
        return self.name.rpartition(".")[0]

    @property
    def last_name(self) -> str:
        """Return the last part of the name."""
        return self.name.rpartition(".")[2]


@dataclass
class Backbone:
    """A model with its tokenizer and the parts that methods change."""

    model: Any
    """A transformers model with a head for the task."""
    tokenizer: Any
    name: str = ""
    fresh: frozenset[str] = frozenset()
    """Names of parameters of the base model that no checkpoint gave: they train with the head."""
    note: str = ""
    """What its user should know of how it was loaded."""
    is_language_model: bool = False
    """Whether it predicts tokens; its output layer is part of what was pretrained."""
    commit: str | None = None
    """That of the hub which its files are of."""
    blocks_name: str = field(init=False)
    blocks: nn.ModuleList = field(init=False)

    def __post_init__(self) -> None:
        self.blocks_name, self.blocks = find_blocks(self.model)

    @property
    def num_layers(self) -> int:
        """Return the number of blocks."""
        return len(self.blocks)

    @property
    def is_decoder(self) -> bool:
        """Return whether a token sees only those before it."""
        return is_decoder(self.model.config.model_type)

    def head(self) -> dict[str, nn.Parameter]:
        """Return the parameters of the task's head: all outside the base model, and the fresh ones."""
        inside = "" if self.is_language_model else f"{self.model.base_model_prefix}."
        return {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if not name.startswith(inside) or name in self.fresh
        }

    def linears(self) -> list[Linear]:
        """Return every linear inside the blocks, from low layers to high."""
        return [
            Linear(f"{self.blocks_name}.{layer}.{name}", layer, module)
            for layer, block in enumerate(self.blocks)
            for name, module in block.named_modules()
            if isinstance(module, nn.Linear | Conv1D)
        ]

    def targets(self, patterns: Sequence[str], key: str = "method.targets") -> list[Linear]:
        """Return the linears that the patterns name; a pattern that matches none is an error."""
        linears = self.linears()
        chosen: dict[str, Linear] = {}
        for pattern in patterns:
            until = time.monotonic() + SECONDS
            matches = [linear for linear in linears if _matches(pattern, linear.name, key, until)]
            if not matches:
                names = {linear.last_name for linear in linears}
                raise MethodError(
                    f"{key} must match linears of {self.name}, got {pattern}; {nearest(pattern, names)} "
                    f"(its linears end in {', '.join(sorted(names))})"
                )
            chosen.update((linear.name, linear) for linear in matches)
        return [linear for linear in linears if linear.name in chosen]

    def joint_parts(self, linear: Linear, key: str) -> tuple[str, ...]:
        """Return what a joint linear's output consists of, in order; nothing for one that is not joint."""
        if linear.last_name not in JOINT:
            return ()
        if self.model.config.model_type not in IN_THIRDS:
            raise MethodError(
                f"{key} must be [] for {self.name}, the parts of whose {linear.last_name} are not known to lie one "
                f"after the other, got it; known are {', '.join(IN_THIRDS)}"
            )
        return QUERY_KEY_VALUE

    def replace(self, linear: Linear, module: nn.Module) -> None:
        """Put a module where the linear was."""
        setattr(self.model.get_submodule(linear.parent), linear.last_name, module)


def is_decoder(model_type: str) -> bool:
    """Return whether a family is one of decoders: it has causal language models and no masked ones."""
    return model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name and the list of the model's blocks: the largest list of equal modules."""
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and len({type(block) for block in module}) == 1
    ]
    if not lists:
        raise ModelError(f"model must be a stack of equal blocks, got {type(model).__name__} without one")
    return max(lists, key=lambda item: sum(p.numel() for p in item[1].parameters()))


def shared_inputs(linears: Sequence[Linear]) -> Iterator[list[Linear]]:
    """Yield the linears in groups that receive the same input: query, key and value together."""
    waiting: dict[tuple[str, tuple[str, ...]], list[Linear]] = {}
    for linear in linears:
        family = next((names for names in SHARED_INPUTS if linear.last_name in names), (linear.last_name,))
        waiting.setdefault((linear.parent, family), []).append(linear)
    yield from waiting.values()


def weight_oi(module: nn.Linear | Conv1D) -> Tensor:
    """Return the weight as [out, in]; GPT-2's Conv1D stores it the other way round."""
    return module.weight.t() if isinstance(module, Conv1D) else module.weight


def features(module: nn.Linear | Conv1D) -> tuple[int, int]:
    """Return the number of input and of output features."""
    num_out, num_in = weight_oi(module).shape
    return num_in, num_out


def _matches(pattern: str, name: str, key: str, until: float) -> bool:
    if pattern == ALL_LINEAR or name.endswith(f".{pattern}"):
        return True
    try:
        re.compile(pattern)  # `regex` takes more, and means other things by it
        return regex.fullmatch(pattern, name, timeout=max(until - time.monotonic(), 1e-3)) is not None
    except (re.error, regex.error) as error:
        raise MethodError(f"{key} must be names or regular expressions, got {pattern} ({error})") from None
    except (TimeoutError, MemoryError, RecursionError, OverflowError):
        raise MethodError(
            f"{key} must be expressions that are matched within {SECONDS:g} s, got {pattern[:80]}; write it simpler"
        ) from None
