"""Parameters whose rows lie one below the other in one matrix, so that one product takes them all without a copy."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

ROW_MULTIPLE = 16  # matrix kernels are up to a third slower when a dimension is not a multiple of this


class StackedRows:
    """Matrices [..., I] as one [rows, I], zero rows added up to a multiple of ROW_MULTIPLE.

    The parameters become views of it. Whatever gives one a memory of its own (a copy, a move to another device) is
    noticed at the next use, and they are put together again.
    """

    def __init__(self, parts: Sequence[nn.Parameter]) -> None:
        self._parts = list(parts)
        self._stacked: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the matrix out of copies, whose parameters have a memory of their own."""
        return {**self.__dict__, "_stacked": None}

    def tensor(self) -> Tensor:
        """Return the matrix [rows, I], which holds what the parameters hold.

        Compiled code cannot notice a move: whoever calls it calls this first.
        """
        if torch.compiler.is_compiling():
            assert self._stacked is not None
            return self._stacked
        if self._stacked is None or not all(_lies_in(part, self._stacked, at) for part, at in self._places()):
            self._stacked = self._together()
        return self._stacked

    def _places(self) -> Iterator[tuple[nn.Parameter, int]]:
        """Yield each parameter with its first row."""
        row = 0
        for part in self._parts:
            yield part, row
            row += _rows(part)

    @torch.no_grad()
    def _together(self) -> Tensor:
        rows, width = sum(map(_rows, self._parts)), self._parts[0].shape[-1]
        with torch.inference_mode(False):  # what is made here may be trained later
            stacked = self._parts[0].detach().new_zeros(rows + -rows % ROW_MULTIPLE, width)
            for part, at in self._places():
                own = stacked[at : at + _rows(part)].view(part.shape)
                own.copy_(part)
                part.data = own
        return stacked


def _rows(part: Tensor) -> int:
    return part.shape[:-1].numel()


def _lies_in(part: Tensor, stacked: Tensor, row: int) -> bool:
    return (
        part.untyped_storage()._cdata == stacked.untyped_storage()._cdata
        and part.storage_offset() == row * stacked.shape[1]
        and part.dtype == stacked.dtype
    )
