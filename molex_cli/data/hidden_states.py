"""Hidden states of rows of tokens on disk, memory-mapped: written in files of bounded size, found by the tokens.

Dimensions: B rows, T tokens, D features.
"""

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from molex_cli.records.cached_prefixes import ROWS, files_of
from molex_cli.records.partial import renamed_when_whole
from molex_cli.runtime.paths import require_file

FILE_BYTES = 2**27
KEY_BYTES = 16


def row_key(tokens: np.ndarray, types: np.ndarray | None) -> bytes:
    """Return what a row is known by: a hash of its token ids and, for models that have them, token types."""
    digest = hashlib.blake2b(tokens.astype(np.int32).tobytes(), digest_size=KEY_BYTES)
    if types is not None and types.size:
        digest.update(types.astype(np.int8).tobytes())
    return digest.digest()


def keys_of(ids_BT: Tensor, mask_BT: Tensor, types_BT: Tensor | None) -> list[bytes] | None:
    """Return the keys of the rows of a batch; None unless each is padded on the right alone."""
    ids, mask = ids_BT.cpu().numpy(), mask_BT.cpu().numpy()
    lengths = mask.sum(1)
    if not np.array_equal(mask, np.arange(mask.shape[1]) < lengths[:, None]):
        return None
    types = None if types_BT is None else types_BT.cpu().numpy()
    return [row_key(ids[i, :n], None if types is None else types[i, :n]) for i, n in enumerate(lengths)]


class HiddenStates:
    """The rows in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: list[Tensor] = []
        self._rows: dict[bytes, tuple[int, int, int]] = {}
        """File, first and last token of each row."""
        self._read: set[Path] = set()

    def look(self) -> None:
        """Take in the files that are there by now; one that is damaged goes."""
        for path in files_of(self.folder):
            if path not in self._read:
                self._read.add(path)
                self._take(path)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def bytes_of(self, keys: Sequence[bytes]) -> int:
        """Return the bytes of some rows."""
        spans = [self._rows[key] for key in keys]
        return sum((end - start) * self._files[file][0].nbytes for file, start, end in spans)

    def batch(self, keys: Sequence[bytes], width: int) -> Tensor | None:
        """Return rows [B, T, D], zeros behind their ends; None if one of them is not there."""
        spans = [self._rows.get(key) for key in keys]
        if any(span is None for span in spans):
            return None
        first = self._files[spans[0][0]]  # type: ignore[index]
        states = first.new_zeros(len(keys), width, first.shape[1])
        for i, (file, start, end) in enumerate(spans):  # type: ignore[misc]
            states[i, : end - start] = self._files[file][start:end]
        return states

    def _take(self, path: Path) -> None:
        try:
            with safe_open(require_file(path), framework="pt") as file:
                rows, ends, states = (file.get_tensor(name) for name in (ROWS, "ends", "states"))
        except SafetensorError:
            path.unlink(missing_ok=True)
            return
        except OSError:
            return
        number, start = len(self._files), 0
        self._files.append(states)
        for key, end in zip(rows.numpy(), ends.tolist(), strict=True):
            self._rows[key.tobytes()] = (number, start, end)
            start = end


class Writer:
    """Adds rows to a folder: each file appears when it is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[Path] = []
        self._keys: list[bytes] = []
        self._states: list[Tensor] = []
        self._waiting = 0

    def add(self, key: bytes, states_TD: Tensor) -> None:
        """Add a row of its own tokens alone, no padding."""
        self._keys.append(key)
        self._states.append(states_TD)
        self._waiting += states_TD.nbytes
        if self._waiting >= FILE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last file."""
        if not self._keys:
            return
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        tensors = {
            ROWS: torch.from_numpy(np.frombuffer(b"".join(self._keys), np.uint8).copy()).view(-1, KEY_BYTES),
            "ends": torch.tensor([len(states) for states in self._states]).cumsum(0),
            "states": torch.cat(self._states),
        }
        with renamed_when_whole(path) as temporary:
            save_file(tensors, temporary)
        self.written.append(path)
        self._keys, self._states, self._waiting = [], [], 0

    def take_back(self) -> None:
        """Remove what was written: there is no room for the rest."""
        for path in self.written:
            path.unlink(missing_ok=True)
