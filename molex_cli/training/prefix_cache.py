"""What frozen layers give for the rows of a run, in a folder of the cache: computed where it is not there."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from molex_cli.data.batches import collate, scoring_order
from molex_cli.data.encoding import Encoded
from molex_cli.data.hidden_states import FILE_BYTES, HiddenStates, Writer, row_key
from molex_cli.models.frozen_prefix import FrozenPrefix
from molex_cli.models.structure import Backbone
from molex_cli.objectives.base import Batch, on
from molex_cli.records import cached_prefixes, disk_error
from molex_cli.records.cached_prefixes import GIGABYTE
from molex_cli.records.partial import remove_stale
from molex_cli.runtime import distributed
from molex_cli.tracking.events import Noted
from molex_cli.tracking.sinks import Sinks
from molex_cli.training.stage import Stage

MOST_FILES = 256  # of one run, as long as they are no larger than
MOST_FILE_BYTES = 2**29  # of which a builder holds two in memory
WAIT_SECONDS = 60.0  # between two signs of life to the other processes of a run
WAITING = "another process computes these frozen layers now; waiting for it (cache_gb=0 goes on without)"
Missing = list[list[int]]


@dataclass(frozen=True)
class Rows:
    """The rows of a split that a run reads, without those that are equal to one before."""

    encoded: Encoded
    by_key: dict[bytes, int]

    def tokens(self, rows: Sequence[int]) -> int:
        """Return the tokens of some rows."""
        offsets = self.encoded.offsets
        return sum(int(offsets[row + 1] - offsets[row]) for row in rows)

    @property
    def longest(self) -> int:
        """Return the tokens of the longest row."""
        return max((self.tokens([row]) for row in self.by_key.values()), default=0)


def rows_of(stages: Sequence[Stage]) -> Iterator[Rows]:
    """Yield the rows of each split that training and evaluations reach."""
    known: set[bytes] = set()
    every = [(stage, split, encoded) for stage in stages for split, encoded in stage.encoded.items()]
    for stage, split, encoded in every:
        reached = encoded.rows_of(_trained_on(stage) if split == "train" else range(len(encoded.ids)))
        keys = {row_key(*encoded.row(row)): row for row in reached}
        yield Rows(encoded, {key: row for key, row in keys.items() if key not in known})
        known |= keys.keys()


def _trained_on(stage: Stage) -> Sequence[int]:
    """Return the examples that a stage's training reaches."""
    lengths = stage.encoded["train"].lengths
    if stage.schedule.total_steps >= stage.schedule.steps_per_epoch:
        return range(len(lengths))
    return sorted({each for batch in stage.schedule.batches(lengths, stage.experiment.seed) for each in batch})


@dataclass
class PrefixCache:
    """The rows of a run in one folder of the cache."""

    folder: Path
    prefix: FrozenPrefix
    rows: Sequence[Rows]
    batch_size: int
    device: torch.device
    sinks: Sinks
    built: int = 0
    """Rows that this run computed."""
    states: HiddenStates = field(init=False)

    def __post_init__(self) -> None:
        self.states = HiddenStates(self.folder)

    @cached_property
    def token_bytes(self) -> int:
        """Return the bytes of one token."""
        encoded, by_key = self.rows[0].encoded, self.rows[0].by_key
        one = inputs(encoded, [next(iter(by_key.values()))], self.prefix.backbone, self.device)
        states = self.prefix.hidden_states(one)
        return states.shape[-1] * states.element_size()

    @property
    def bytes(self) -> int:
        """Return the bytes of the run's rows."""
        return sum(self.states.bytes_of(list(each.by_key)) for each in self.rows)

    @property
    def num_rows(self) -> int:
        """Return how many rows the run reads."""
        return sum(len(each.by_key) for each in self.rows)

    def filled(self, limit: float) -> str:
        """Compute what is missing, in no more than `limit` gigabytes of the cache; return why that cannot be, or ""."""
        self.states.look()
        if not any(distributed.all_gather([any(self._missing())])):
            return ""
        lock = cached_prefixes.building(self.folder)
        self._take(lock)
        try:
            self.states.look()
            missing, problem = distributed.broadcast(self._planned(limit))
            if not problem and any(missing):
                problem = self._built(missing)
        finally:
            lock.release()
        return problem or self._lacking()

    def _lacking(self) -> str:
        """Return what it means that a process of the run does not find all rows, "" if each does."""
        self.states.look()
        if any(distributed.all_gather([any(self._missing())])):
            return (
                f"a process of the run does not find all of their rows in {self.folder}; "
                f"on several machines cache_dir must be a folder that they share"
            )
        return ""

    def _missing(self) -> Missing:
        """Return the rows of each split that are not there."""
        return [[row for key, row in each.by_key.items() if key not in self.states] for each in self.rows]

    def _planned(self, limit: float) -> tuple[Missing, str]:
        """Return the rows to compute, and why that cannot be."""
        missing = self._missing()
        if not any(missing):
            return missing, ""
        needed = self._needed(missing)
        there, free = cached_prefixes.bytes_of(self.folder.parent), shutil.disk_usage(self.folder).free
        takes = f"their rows would take {needed / GIGABYTE:.3g} GB of the cache"
        if there + needed > limit * GIGABYTE:
            has = f"beside {there / GIGABYTE:.3g} GB of others, and cache_gb is {limit:g}"
            return missing, f"{takes} {has}; raise it, or make room with molex cache --clear"
        if 2 * needed > free:
            return missing, f"{takes}, and its disk has {free / GIGABYTE:.3g} GB, of which half at most is taken"
        return missing, ""

    def _needed(self, missing: Missing) -> int:
        """Return the bytes of the rows that are missing."""
        tokens = sum(each.tokens(rows) for each, rows in zip(self.rows, missing, strict=True))
        return tokens * self.token_bytes

    def _take(self, lock: FileLock) -> None:
        """Wait until nobody else adds to the folder; the first of a run's processes holds the lock for all."""
        seconds = 0.0
        while not distributed.broadcast(distributed.rank() > 0 or _taken(lock, seconds)):
            if not seconds:
                self.sinks.write(Noted(message=WAITING))
            seconds = WAIT_SECONDS

    def _built(self, missing: Missing) -> str:
        """Compute the rows, each process a share; return what the disk of one said, or ""."""
        count, layers = sum(map(len, missing)), self.prefix.num_layers
        self.sinks.write(Noted(message=f"computing the lowest {layers} layers, which are frozen, for {count:,} rows"))
        # A file is held open by whoever reads: few of them.
        writer = Writer(self.folder, min(MOST_FILE_BYTES, max(FILE_BYTES, self._needed(missing) // MOST_FILES)))
        problem = next(filter(None, distributed.all_gather([self._written(writer, missing)])), "") or self._lacking()
        if problem:
            writer.take_back()
        else:
            self.built = count
        return problem

    def _written(self, writer: Writer, missing: Missing) -> str:
        """Compute this process's share; return why the disk does not take it, or ""."""
        try:
            if distributed.rank() == 0:
                remove_stale(self.folder)
                cached_prefixes.describe(self.folder, self.prefix.backbone.name, self.prefix.num_layers)
            for encoded, rows in self._share(missing):
                states = self.prefix.hidden_states(inputs(encoded, rows, self.prefix.backbone, self.device)).cpu()
                for line, row in enumerate(rows):
                    tokens, types = encoded.row(row)
                    writer.add(row_key(tokens, types), states[line, : len(tokens)])
            writer.flush()
        except Exception as error:
            if (told := disk_error(error)) is None:
                raise
            return str(told)
        return ""

    def _share(self, missing: Missing) -> Iterator[tuple[Encoded, list[int]]]:
        """Yield this process's batches of rows of like length, longest first."""
        for each, rows in zip(self.rows, missing, strict=True):
            batches = scoring_order([each.tokens([row]) for row in rows], self.batch_size)
            for batch in batches[distributed.rank() :: distributed.world_size()]:
                yield each.encoded, [rows[i] for i in batch]


def inputs(encoded: Encoded, rows: Sequence[int], backbone: Backbone, device: torch.device) -> Batch:
    """Return rows as a model takes them: [B, T] each."""
    return on(device, collate(encoded, rows, backbone.tokenizer.pad_token_id))


def _taken(lock: FileLock, seconds: float) -> bool:
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    return True
