"""What the routers of a model did: sums over real tokens, kept while a forward pass runs."""

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from molex_cli.errors import MethodError
from molex_cli.routing import balance_loss, importance_and_load


class Routing(Protocol):
    """What one layer's routers gave to each expert."""

    def clear(self) -> None:
        """Forget the last forward pass, keeping its sums in the running totals."""

    def balance(self) -> Tensor:
        """Return the balance loss of the last forward pass: 1 when balanced."""

    def take(self) -> dict[str, Any]:
        """Return the figures since this was last asked; `usage` is the share of each expert."""


class TokenWeights:
    """Which tokens of the batch being computed count: 1 for a real token, 0 for padding.

    It is open from the start to the end of a model's forward pass only, so that what activation
    checkpointing computes again during the backward pass is not counted twice.
    """

    def __init__(self, count_padding: bool) -> None:
        self.count_padding = count_padding
        self.is_open = False
        self._mask: Tensor | None = None

    def of(self, shape: torch.Size, like: Tensor) -> Tensor:
        """Return the weights of tokens of this shape, flattened; zeros for tensors that are no tokens."""
        mask = self._mask
        if mask is None:
            return like.new_ones(shape.numel())
        if mask.ndim != 2 or len(shape) != 2 or mask.shape[0] != shape[0] or mask.shape[1] < shape[1]:
            return like.new_zeros(shape.numel())
        return mask[:, -shape[1] :].reshape(-1).to(like.dtype)

    def watch(self, model: nn.Module, routings: "Sequence[Routing]") -> None:
        """Open at each forward pass of the model and take the mask from its arguments."""

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            kwargs = self.read(args, kwargs)
            self.is_open = True
            for routing in routings:
                routing.clear()
            return args, kwargs

        def after(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
            self.is_open, self._mask = False, None

        model.register_forward_pre_hook(before, with_kwargs=True)
        model.register_forward_hook(after, always_call=True)

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Take the mask from the model's arguments and return the keyword arguments that the model shall get."""
        self._mask = None if self.count_padding else kwargs.get("attention_mask")
        return kwargs


class PromptTokens(TokenWeights):
    """The tokens that may choose a layer: real ones and, for decoders, of the prompt only.

    What a decoder generates must not change the choice that was made before it was known. The prompt is
    where the model's extra argument `prompt_mask` [B, T] is 1; else, during `generate`, what that was
    given; else, with labels for every token, what stands before the first label that is not -100;
    else everything.
    """

    def __init__(self, model: nn.Module, *, count_padding: bool, is_decoder: bool) -> None:
        super().__init__(count_padding)
        self.is_decoder = is_decoder
        self._names = list(inspect.signature(model.forward).parameters)
        self._prompt_width: int | None = None
        if is_decoder and hasattr(model, "generate"):
            self._follow_generation(model)

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Take the masks from the model's arguments; `prompt_mask` does not reach the model."""
        given = dict(zip(self._names, args, strict=False)) | kwargs
        mask = None if self.count_padding else given.get("attention_mask")
        if mask is not None and mask.ndim != 2:
            raise MethodError(
                f"attention_mask must be [rows, tokens] for MoLEx, got {list(mask.shape)}; "
                "a static cache makes such masks, use a dynamic one"
            )
        prompt = self._prompt(given)
        if prompt is not None:
            if not bool(prompt.any(-1).all()):
                raise MethodError(
                    "every row must have a prompt to choose layers from, got labels on its first token; "
                    "set the labels of the prompt to -100 or give the model a prompt_mask"
                )
            mask = prompt if mask is None else mask[:, -prompt.shape[1] :] * prompt
        self._mask = mask
        return {name: value for name, value in kwargs.items() if name != "prompt_mask"}

    def _prompt(self, given: dict[str, Any]) -> Tensor | None:
        """Return the mask of the prompt [B, T] if it is a part of what the model is given."""
        if not self.is_decoder:
            return None
        if given.get("prompt_mask") is not None:
            return given["prompt_mask"]
        inputs = given["input_ids"] if given.get("input_ids") is not None else given["inputs_embeds"]
        if self._prompt_width is not None:
            return (torch.arange(inputs.shape[1], device=inputs.device) < self._prompt_width).expand(inputs.shape[:2])
        labels = given.get("labels")
        if labels is None or labels.shape != inputs.shape[:2] or self.count_padding:
            return None
        return (labels != -100).cumsum(-1) == 0

    def _follow_generation(self, model: Any) -> None:
        """Remember how wide the prompt is while the model generates."""
        generate = model.generate

        def generate_from_prompt(*args: Any, **kwargs: Any) -> Any:
            given = [*args[:1], *(kwargs.get(name) for name in ("inputs", "input_ids", "inputs_embeds"))]
            inputs = next((each for each in given if each is not None), None)
            self._prompt_width = None if inputs is None else inputs.shape[1]
            try:
                return generate(*args, **kwargs)
            finally:
                self._prompt_width = None

        model.generate = generate_from_prompt


class LayerRouting:
    """The routing of one layer: what its routers, all linears together, gave to each expert."""

    def __init__(self, num_experts: int, weights: TokenWeights) -> None:
        self.num_experts = num_experts
        self._weights = weights
        self._importance: list[Tensor] = []
        self._load: list[Tensor] = []
        self._total: Tensor | None = None

    def observe(self, probability_TGE: Tensor, gates_TGE: Tensor, shape: torch.Size) -> None:
        """Add the routing of some linears for tokens of the given shape."""
        if not self._weights.is_open:
            return
        importance, load = importance_and_load(probability_TGE, gates_TGE, self._weights.of(shape, gates_TGE))
        self._importance.append(importance)
        self._load.append(load)

    def clear(self) -> None:
        """Forget the last forward pass, keeping its load in the running total."""
        if self._load:
            load = torch.stack(self._load).sum(0)
            self._total = load if self._total is None else self._total + load
        self._importance, self._load = [], []

    def balance(self) -> Tensor:
        """Return the balance loss of the last forward pass: 1 when balanced, E/k on k experts."""
        importance, load = torch.stack(self._importance).sum(0), torch.stack(self._load).sum(0)
        return balance_loss(load / load.sum().clamp(min=1), importance / importance.sum().clamp(min=1e-9))

    def take(self) -> dict[str, Any]:
        """Return `usage`, the share of the routing of each expert, since this was last asked."""
        self.clear()
        total, self._total = self._total, None
        if total is None:
            return {"usage": [0.0] * self.num_experts}
        return {"usage": (total / total.sum().clamp(min=1)).tolist()}
