"""Whether a pass can leave the frozen layers out: tried on a few rows before any is trained on.

Dimensions: B rows, T tokens, D features.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from molex_cli.models.frozen_prefix import FrozenPrefix
from molex_cli.models.token_difference import token_difference


def misfit(prefix: FrozenPrefix, inputs: Mapping[str, Tensor], width: int, most: float) -> str:
    """Return why the layers of this family cannot be left out, "" if some rows [B, T] show nothing against it.

    `width` is the largest that a batch of the run has, `most` the largest difference that is rounding.
    """
    if why := prefix.unskippable():
        return why
    try:
        return _tried(prefix, inputs, width, most)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of the model's own code, which expects what its blocks would give
        return f"its layers cannot be left out (a trial ended with {type(error).__name__})"


def _tried(prefix: FrozenPrefix, inputs: Mapping[str, Tensor], width: int, most: float) -> str:
    mask = inputs["attention_mask"]
    states = prefix.hidden_states(inputs)
    shortest = int(mask.sum(1).argmin())
    length = int(mask[shortest].sum())
    for columns in sorted({length, min(length + 1, width), width}):
        one = _of_width(
            {name: value[shortest : shortest + 1, :length] for name, value in inputs.items()}, columns, prefix
        )
        alone = prefix.hidden_states(one)
        if alone.shape[:-1] != one["attention_mask"].shape or states.shape[:-1] != mask.shape:
            return "its blocks give something else than hidden states of rows, tokens and features"
        if (
            not token_difference(alone[:, :length], states[shortest : shortest + 1, :length], mask.new_ones(1, length))
            <= most
        ):
            return "its layers see padding"
    difference = off_by(prefix, inputs, states * mask.unsqueeze(-1))
    return "" if difference <= most else f"without its layers outputs are off by {difference:.1g}"


def off_by(prefix: FrozenPrefix, inputs: Mapping[str, Tensor], states_BTD: Tensor) -> float:
    """Return how far a pass that takes these hidden states is from a whole one, as a share of a token's norm."""
    whole = prefix.output(inputs)
    with prefix.skipped(states_BTD):
        part = prefix.output(inputs)
    return token_difference(whole, part, inputs["attention_mask"])


def _of_width(inputs: Mapping[str, Tensor], width: int, prefix: FrozenPrefix) -> dict[str, Tensor]:
    """Return rows with padding on the right up to a width."""
    fill = {"input_ids": prefix.backbone.tokenizer.pad_token_id}
    return {name: pad(value, (0, width - value.shape[1]), value=fill.get(name, 0)) for name, value in inputs.items()}
