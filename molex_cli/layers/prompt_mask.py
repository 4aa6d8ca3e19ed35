"""Which tokens may choose a layer: real ones and, for decoders, of the prompt only, or all that there are."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from molex_cli.errors import MethodError
from molex_cli.layers.routing_statistics import TokenWeights

NOT_RECORDED = ("output_hidden_states", "output_attentions")


class PromptTokens(TokenWeights):
    """The tokens of the batch being computed that may choose a layer.

    What a decoder generates must not change the choice that was made before it was known. The prompt is
    where the model's extra argument `prompt_mask` [B, T] is 1; else, during `generate`, what that was
    given; else, with labels for every token, what stands before the first label that is not -100;
    else everything.

    With `every_token` whatever a decoder is given chooses, so a generated token changes the choice for all before
    it: `generate` then keeps no keys and values, and each step is the forward pass of training, padded to `pad_to`
    on the right. `attend_padding` lets that padding see itself, as where no mask hides it.
    """

    def __init__(
        self,
        model: Any,
        *,
        count_padding: bool,
        is_decoder: bool,
        every_token: bool = False,
        attend_padding: bool = False,
        pad_to: int | None = None,
    ) -> None:
        super().__init__(count_padding)
        self.is_decoder = is_decoder
        self.every_token, self.attend_padding = every_token and is_decoder, attend_padding and is_decoder
        self.pad_to = pad_to if self.every_token else None
        self._model = model
        self._names = list(inspect.signature(model.forward).parameters)
        self._prompt_width: int | None = None
        self._reading: nn.Module | None = None

    def watch(self, model: nn.Module) -> None:
        """Open at each forward pass of the model or of its base model, and follow what the model generates."""
        super().watch(model)
        base = self._model.base_model
        if base is not model:
            base.register_forward_pre_hook(self.before, with_kwargs=True)
            base.register_forward_hook(self.after, always_call=True)
        if self.is_decoder and hasattr(model, "generate"):
            self._model.generate = self.generate

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Open at the outermost of model and base model."""
        if self._reading is not None:
            return args, kwargs
        if self.every_token:
            kwargs = self._as_in_training(kwargs)
        args, kwargs = super().before(module, args, kwargs)
        self._reading = module
        return args, kwargs

    def after(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        """Close where it was opened."""
        if module is self._reading:
            super().after(module, args, output)
            self._reading = None

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Take the masks from the model's arguments; `prompt_mask` does not reach the model."""
        given = dict(zip(self._names, args, strict=False)) | kwargs
        for name in NOT_RECORDED:
            if given.get(name) or (given.get(name) is None and getattr(self._model.config, name, False)):
                raise MethodError(
                    f"{name} must be off for MoLEx, got True: transformers would record guests as layers; "
                    "put hooks on the blocks instead"
                )
        inputs = given["input_ids"] if given.get("input_ids") is not None else given["inputs_embeds"]
        mask = None if self.count_padding else given.get("attention_mask")
        if mask is not None:
            rows, width = inputs.shape[:2]
            if mask.ndim != 2 or mask.shape[0] != rows or mask.shape[1] < width:
                raise MethodError(
                    f"attention_mask must be {[rows, width]} for MoLEx, got {list(mask.shape)}; "
                    "static caches make other masks, use a dynamic one"
                )
            mask = mask[:, -width:]  # in a cached step it covers what is in the cache too
        prompt = self._prompt(given, inputs)
        if prompt is not None:
            mask = prompt if mask is None else mask * prompt
            told = self._prompt_width is not None or given.get("prompt_mask") is not None
            if not told and not bool(mask.any(-1).all()):  # a look that waits for the device
                raise MethodError(
                    "every row must have a prompt to choose layers from, got labels on its first token; "
                    "set the labels of the prompt to -100 or give the model a prompt_mask"
                )
        self._mask = mask
        if self.attend_padding and kwargs.get("attention_mask") is not None:
            kwargs = kwargs | {"attention_mask": (kwargs["attention_mask"].cumsum(-1) > 0).long()}
        return {name: value for name, value in kwargs.items() if name != "prompt_mask"}

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Generate as the model does, and remember meanwhile how wide the prompt is."""
        settings = kwargs.get("generation_config") or self._model.generation_config
        if kwargs.get("prefill_chunk_size") or getattr(settings, "prefill_chunk_size", None):
            raise MethodError("prefill_chunk_size must be null for MoLEx, got a size: the whole prompt chooses")
        given = [*args[:1], *(kwargs.get(name) for name in ("inputs", "input_ids", "inputs_embeds"))]
        inputs = next((each for each in given if each is not None), None)
        self._prompt_width = 1 if inputs is None else inputs.shape[1]
        if self.every_token:
            kwargs["use_cache"] = False
        try:
            return type(self._model).generate(self._model, *args, **kwargs)
        finally:
            self._prompt_width = None

    def _as_in_training(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Refuse what keeps a choice; pad the step of a generation to the width that batches have in training."""
        if kwargs.get("use_cache") or kwargs.get("past_key_values") is not None:
            raise MethodError(
                "use_cache must be false with method.voters=all, got a key/value cache: each new token votes too, and "
                "a guest that it brings in has no keys of the tokens before it; set method.voters=prompt"
            )
        if kwargs.get("prompt_mask") is not None:
            raise MethodError("prompt_mask must be left out with method.voters=all, got one: every token votes")
        kwargs = kwargs | {"use_cache": False}
        ids = kwargs.get("input_ids")
        missing = (self.pad_to or 0) - (0 if ids is None else ids.shape[1])
        return kwargs if self._prompt_width is None or ids is None or missing <= 0 else self._padded(kwargs, missing)

    def _padded(self, kwargs: dict[str, Any], missing: int) -> dict[str, Any]:
        """Return the arguments with so many padding tokens behind the last, whose logits alone are kept."""
        ids, positions = kwargs["input_ids"], kwargs.get("position_ids")
        mask = kwargs.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        padded = {
            "input_ids": nn.functional.pad(ids, (0, missing), value=self._model.config.pad_token_id or 0),
            "attention_mask": nn.functional.pad(mask, (0, missing)),
            "logits_to_keep": torch.tensor([ids.shape[1] - 1], device=ids.device),
        }
        if positions is not None:
            behind = positions[..., -1:] + torch.arange(1, missing + 1, device=ids.device)
            padded["position_ids"] = torch.cat([positions, behind], -1)
        return kwargs | padded

    def _prompt(self, given: dict[str, Any], inputs: Tensor) -> Tensor | None:
        """Return the mask of the prompt [B, T] if it is a part of what the model is given."""
        if not self.is_decoder or self.every_token:
            return None
        prompt = given.get("prompt_mask")
        if prompt is not None:
            if prompt.shape != inputs.shape[:2]:
                raise MethodError(f"prompt_mask must be {list(inputs.shape[:2])}, got {list(prompt.shape)}")
            return prompt
        if self._prompt_width is not None:
            return (torch.arange(inputs.shape[1], device=inputs.device) < self._prompt_width).expand(inputs.shape[:2])
        labels = given.get("labels")
        if labels is None or labels.shape != inputs.shape[:2] or self.count_padding:
            return None
        return (labels != -100).cumsum(-1) == 0
