"""Gaussian noise on a model's input embeddings.

Dimensions: B rows, T tokens, D features.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

SHARED = 8  # tokens at the beginning of a row that choose its noise


@contextmanager
def embedding_noise(model: Any, radius: float, seed: int, pad_id: int) -> Iterator[None]:
    """Add to the embedding of every token a Gaussian direction of length `radius`.

    A row's noise depends on its first tokens, the position in it and the seed alone: not on batch mates, padding or,
    where the choices of a question are ranked, on the choice that follows the question.
    """

    def add(module: torch.nn.Module, args: tuple[Tensor, ...], embedded_BTD: Tensor) -> Tensor:
        noise_BTD = torch.zeros_like(embedded_BTD)
        for row, ids_T in enumerate(args[0].cpu()):
            real = ids_T != pad_id
            begun = ids_T[real][:SHARED]
            key = zlib.crc32(begun.numpy().tobytes(), zlib.crc32(str(seed).encode()))
            stream = torch.Generator().manual_seed(key)
            drawn = torch.randn(int(real.sum()), embedded_BTD.shape[-1], generator=stream)
            noise_BTD[row, real] = torch.nn.functional.normalize(drawn, dim=-1).to(noise_BTD)
        return embedded_BTD + radius * noise_BTD

    handle = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
