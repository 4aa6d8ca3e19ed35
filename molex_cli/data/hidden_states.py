"""Hidden states of rows of tokens on disk: written in files of bounded size, found by the tokens.

Rows are read straight into a batch and not mapped into memory: what a run reads would count as memory that it needs,
and a file that another process cuts off would end it.

Dimensions: B rows, T tokens, D features.
"""

import hashlib
import json
import os
import uuid
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

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


class Place(NamedTuple):
    """Where the hidden states of a row are."""

    file: BinaryIO
    offset: int
    num_tokens: int
    checksum: int


class HiddenStates:
    """The rows in a folder, all of one width and type."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[bytes, Place] = {}
        self._files: dict[Path, BinaryIO] = {}
        self._like = torch.empty(0)
        self.problem = ""
        """What was last wrong with a file that was read."""

    def look(self) -> None:
        """Take in the files that are there by now; one that is damaged goes, one that cannot be read is passed over."""
        for path in files_of(self.folder):
            if path not in self._files:
                try:
                    self._take(path)
                except (SafetensorError, ValueError, KeyError):
                    with suppress(OSError):
                        path.unlink()
                except OSError:  # gone meanwhile, or another user's
                    continue

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            file.close()

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    @property
    def token_bytes(self) -> int:
        """Return the bytes of one token."""
        return self._like.shape[-1] * self._like.element_size()

    def bytes_of(self, keys: Sequence[bytes]) -> int:
        """Return the bytes of those rows that are there."""
        return self.token_bytes * sum(self._places[key].num_tokens for key in keys if key in self)

    def batch(self, keys: Sequence[bytes], width: int) -> Tensor | None:
        """Return rows [B, T, D], zeros behind their ends; None if one of them is not there or not as it was added."""
        places = [self._places[key] for key in keys if key in self._places]
        if len(places) < len(keys):
            return None
        states = self._like.new_zeros(len(keys), width, self._like.shape[-1])
        lines = states.flatten(1).view(torch.uint8).numpy()
        whole = (self._read(place, line) for line, place in zip(lines, places, strict=True))
        return states if all(whole) else None

    def _read(self, place: Place, line: np.ndarray) -> bool:
        """Read a row into a line of bytes, and return whether it is as it was added."""
        part = line[: place.num_tokens * self.token_bytes]
        try:
            count = os.preadv(place.file.fileno(), [part.data], place.offset)
        except OSError as error:
            self.problem = f"{place.file.name} cannot be read ({error.strerror})"
            return False
        if count == len(part) and zlib.crc32(part.data) == place.checksum:
            return True
        self.problem = f"{place.file.name} is damaged"
        return False

    def _take(self, path: Path) -> None:
        with safe_open(require_file(path), framework="pt") as about:
            rows, ends = about.get_tensor(ROWS).numpy(), about.get_tensor("ends").tolist()
            checksums = about.get_tensor("checksums").tolist()
            self._like = about.get_slice("states")[:0]
        file = self._files[path] = path.open("rb", buffering=0)
        header = int.from_bytes(file.read(8), "little")
        first = 8 + header + json.loads(file.read(header))["states"]["data_offsets"][0]
        starts = [0, *ends]
        for row, start, end, checksum in zip(rows, starts, ends, checksums, strict=False):
            self._places[row.tobytes()] = Place(file, first + start * self.token_bytes, end - start, checksum)


class Writer:
    """Adds rows to a folder: each file appears when it is whole."""

    def __init__(self, folder: Path, file_bytes: int = FILE_BYTES) -> None:
        self.folder, self.file_bytes = folder, file_bytes
        self.written: list[Path] = []
        self._keys: list[bytes] = []
        self._states: list[Tensor] = []
        self._waiting = 0

    def add(self, key: bytes, states_TD: Tensor) -> None:
        """Add a row of its own tokens alone, no padding."""
        self._keys.append(key)
        self._states.append(states_TD)
        self._waiting += states_TD.nbytes
        if self._waiting >= self.file_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last file."""
        if not self._keys:
            return
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        tensors = {
            ROWS: torch.from_numpy(np.frombuffer(b"".join(self._keys), np.uint8).copy()).view(-1, KEY_BYTES),
            "checksums": torch.tensor([checksum_of(states) for states in self._states]),
            "ends": torch.tensor([len(states) for states in self._states]).cumsum(0),
            "states": torch.cat(self._states),
        }
        with renamed_when_whole(path) as temporary:
            save_file(tensors, temporary)
        self.written.append(path)
        self._keys, self._states, self._waiting = [], [], 0

    def take_back(self) -> None:
        """Remove what was written: it is of no use without the rest."""
        for path in self.written:
            with suppress(OSError):
                path.unlink()


def checksum_of(states_TD: Tensor) -> int:
    """Return the CRC-32 of a row's bytes."""
    return zlib.crc32(states_TD.contiguous().flatten().view(torch.uint8).numpy().data)
