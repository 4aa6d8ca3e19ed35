"""An adapted model as lm-evaluation-harness computes with it.

The harness's own `HFLM` gives a model tokens alone: padding and answers would choose layers and experts too. Here each
forward pass has the masks that it has in our own scoring. Dimensions: B rows, T tokens, V tokens of the vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from molex_cli.data.prompts import without_end
from molex_cli.methods.base import Adapted
from molex_cli.objectives.base import for_model

Request = tuple[Any, list[int], list[int]]
"""What the harness knows a request by, the tokens of the context and those of the continuation."""


class Row(NamedTuple):
    """What a row of a forward pass is: all tokens of a request but the last."""

    tokens: tuple[int, ...]
    context: int
    """How many of them stand before the continuation."""


class HarnessModel(HFLM):
    """`HFLM` around an adapted decoder: its masks, its padding, and prompts that no token ends."""

    def __init__(self, adapted: Adapted, batch_size: int, max_length: int | None) -> None:
        tokenizer = adapted.backbone.tokenizer
        super().__init__(
            pretrained=adapted.model,
            tokenizer=tokenizer,
            batch_size=batch_size,
            max_length=max_length,
            softmax_dtype="float32",
        )
        self._adapted, self._rows = adapted, list[Row]()
        self._is_ended = len(without_end(tokenizer, nothing := tokenizer.encode(""))) < len(nothing)
        """Whether the tokenizer puts a token behind every text."""

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, *args: Any, **settings: Any) -> list[int]:
        """Return the tokens of a text, without what a tokenizer puts behind it."""
        ids = super().tok_encode(string, add_special_tokens, *args, **settings)
        return without_end(self.tokenizer, ids) if self._is_ended and add_special_tokens is not False else ids

    def tok_batch_encode(
        self, strings: list[str], padding_side: str = "left", left_truncate_len: int | None = None, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Return prompts that end together: ids and mask [B, T]."""
        rows = [torch.tensor(self.tok_encode(text)[-(left_truncate_len or 0) :]) for text in strings]
        ids = pad_sequence(rows, True, self.tokenizer.pad_token_id, padding_side)
        return ids, pad_sequence([torch.ones_like(row) for row in rows], True, 0, padding_side)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation, and whether greedy decoding would give it."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Return the log-likelihood of each text."""
        return super().loglikelihood_rolling(requests, disable_tqdm=True)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Return what the model writes after each prompt."""
        return super().generate_until(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Let the harness score one batch after another, whose rows are then known to the forward pass."""
        answers: dict[int, tuple[float, bool]] = {}
        for rows, members in _batches(requests, self.batch_size):
            self._rows = rows
            found = super()._loglikelihood_tokens([requests[i] for i in members], disable_tqdm=True)
            answers |= dict(zip(members, found, strict=True))
        return [answers[i] for i in range(len(requests))]

    def _model_call(self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the logits [B, T, V] of the rows of this batch, which `inps` [B, T] has padded on the right."""
        assert len(inps) == len(self._rows)
        width = inps.shape[1]
        cut = [max(0, len(row.tokens) - self.max_length) for row in self._rows]  # from the left, as the harness does
        lengths = inps.new_tensor([len(row.tokens) - less for row, less in zip(self._rows, cut, strict=True)])
        prompts = inps.new_tensor([max(1, row.context - less) for row, less in zip(self._rows, cut, strict=True)])
        columns = torch.arange(width, device=inps.device)
        real = columns < lengths[:, None]
        batch = {
            "input_ids": inps.masked_fill(~real, self.tokenizer.pad_token_id),
            "attention_mask": real.long(),
            "prompt_mask": (columns < prompts[:, None]).long(),
        }
        missing = max(0, (self._adapted.pad_to or 0) - width)
        fill = {"input_ids": self.tokenizer.pad_token_id}
        batch = {name: pad(each, (0, missing), value=fill.get(name, 0)) for name, each in batch.items()}
        with torch.no_grad():
            return self.model(**for_model(self._adapted, batch)).logits[:, :width]


def _batches(requests: Sequence[Request], size: int) -> Iterator[tuple[list[Row], list[int]]]:
    """Yield rows in the order in which the harness computes them, with all requests that each batch of them answers.

    The harness computes equal rows once (choices of one token each); with another context they are others to a router.
    """
    sharing: dict[Row, list[int]] = {}
    for index, (_, context, continuation) in enumerate(requests):
        row = Row(tuple([*context, *continuation][:-1]), len(context))
        sharing.setdefault(row, []).append(index)
    batch: dict[tuple[int, ...], Row] = {}
    for row in sorted(sharing, key=lambda row: (-len(row.tokens), row)):
        if len(batch) == size or row.tokens in batch:
            yield _batch(batch, sharing)
            batch = {}
        batch[row.tokens] = row
    if batch:
        yield _batch(batch, sharing)


def _batch(rows: dict[tuple[int, ...], Row], sharing: dict[Row, list[int]]) -> tuple[list[Row], list[int]]:
    return list(rows.values()), [index for row in rows.values() for index in sharing[row]]
