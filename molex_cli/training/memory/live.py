"""Which tensors live at the same time, written down while a computation runs."""

import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

REAL_ELEMENTS = 2**20
"""At most, of what is computed with content."""


class LiveStorages(TorchDispatchMode):
    """Numbers the storages of all tensors that operations return, and writes down when each begins and ends.

    Views share a storage, which counts once. What a kernel allocates and frees inside is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []
        """Of each storage, by its number."""
        self.changes: list[tuple[int, int]] = []
        """A storage's number and +1 where it begins or -1 where it ends, in order."""
        self._number_of: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the wrapper costs

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the operation and see what it returns."""
        kwargs = kwargs or {}
        result = _from_batch(func, args, kwargs) if _is_real(args) else func(*args, **kwargs)
        leaves = (result,) if isinstance(result, Tensor) else tree_leaves(result)
        self.see(each for each in leaves if isinstance(each, Tensor))
        return result

    def see(self, tensors: Iterable[Tensor]) -> set[int]:
        """Return the numbers of the tensors' storages, which begin now where they are new."""
        return {self._number(tensor.untyped_storage()) for tensor in tensors}

    def alive(self) -> set[int]:
        """Return the numbers of the storages that live now."""
        return set(self._number_of.values())

    def _number(self, storage: Any) -> int:
        address = storage._cdata
        if address not in self._number_of:
            number = self._number_of[address] = len(self.bytes)
            self.bytes.append(storage.nbytes())
            self.changes.append((number, 1))
            weakref.finalize(storage, self._end, address, number)
        return self._number_of[address]

    def _end(self, address: int, number: int) -> None:
        if self._number_of.pop(address, None) is not None:
            self.changes.append((number, -1))

    def peak(self, kinds: Mapping[int, str], other: str, since: int) -> tuple[Counter[str], int]:
        """Return the bytes by kind when most lived, and at which change, from change `since` on.

        `kinds` has the storages' numbers; those it has not are of the kind `other`.
        """
        now, most = Counter[str](), Counter[str]()
        total = highest = 0
        when = since
        for position, (number, sign) in enumerate(self.changes):
            size = sign * self.bytes[number]
            now[kinds.get(number, other)] += size
            total += size
            if position >= since and total > highest:
                highest, most, when = total, now.copy(), position
        return most, when


def _is_real(args: Any) -> bool:
    """Return whether there are tensors among the arguments, and all have a content."""
    tensors = [each for each in tree_leaves(args) if isinstance(each, Tensor)]
    return bool(tensors) and not any(isinstance(each, FakeTensor) for each in tensors)


def _from_batch(func: Any, args: Any, kwargs: Any) -> Any:
    """Return what is computed from the batch alone, with its content: models ask whether a mask is full, and the like.

    A large result has none.
    """
    with suppress(DataDependentOutputException, DynamicOutputShapeException):
        result = func(*args, **kwargs)
        if sum(each.numel() for each in tree_leaves(result) if isinstance(each, Tensor)) > REAL_ELEMENTS:
            return result
    with unset_fake_temporarily():
        return func(*args, **kwargs)
