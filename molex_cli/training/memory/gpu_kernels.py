"""What a GPU's kernels keep where a CPU's keep more, so that a machine without one can plan for it."""

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class GpuKernels(TorchFunctionMode):
    """Dropout keeps a mask of one byte an element, and fused attention draws its dropout again in the backward pass."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the operation as a GPU would."""
        kwargs = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention:
            # The CPU's fused kernel has no dropout; what it keeps is what the GPU's keeps.
            return func(*args[:4], **{**kwargs, "dropout_p": 0.0})
        if func is functional.dropout and not kwargs.get("inplace"):
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)


def _dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(input, p, training)[0] if training and p else input
