"""The layers below all that trains, computed once for each row and read from the cache afterwards.

Training and evaluation call the model as ever: hooks find the rows of a batch by their tokens and let the forward pass
begin above the frozen layers. A batch with a row that is not there is computed whole.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor, nn

from molex_cli.config.schema import Experiment
from molex_cli.data.hidden_states import keys_of
from molex_cli.methods.base import Adapted
from molex_cli.models.frozen_prefix import FrozenPrefix, frozen_blocks
from molex_cli.models.frozen_trial import misfit, off_by
from molex_cli.objectives.base import Batch, on_its_way
from molex_cli.records import Record, cached_prefixes, disk_error
from molex_cli.records.parts import FrozenLayers
from molex_cli.runtime import distributed
from molex_cli.runtime.hardware import Precision
from molex_cli.runtime.paths import default_cache_dir
from molex_cli.tracking.events import Noted
from molex_cli.tracking.sinks import Sinks
from molex_cli.training.prefix_cache import PrefixCache, Rows, inputs, rows_of
from molex_cli.training.stage import Stage

if TYPE_CHECKING:
    from accelerate import Accelerator

FORMAT = 2
PLAIN = ("input_ids", "attention_mask", "token_type_ids", "labels")  # of a forward pass that can begin further up
WAY_OUT = "molex cache --clear removes it"
SAMPLE = 4  # rows that are tried before any is trained on
CLOSE, CLOSE_IN_BF16 = 5e-5, 3e-2
"""Largest difference between a pass that leaves layers out and one that is whole, as a share of a token's norm."""


@contextmanager
def frozen_prefix(
    adapted: Adapted,
    stages: Sequence[Stage],
    experiment: Experiment,
    accelerator: "Accelerator",
    record: Record,
    sinks: Sinks,
) -> Iterator[None]:
    """Let the model leave out its frozen layers, where that changes nothing, and record what came of it.

    With `train.frozen_dropout=false` these layers drop nothing, whether or not they are left out.
    """
    may_drop = experiment.train.frozen_dropout
    if may_drop and (experiment.cache_gb == 0 or frozen_blocks(adapted.backbone, adapted.routers) == 0):
        yield
        return
    layers = FrozenLayersInTraining(adapted, stages, experiment, accelerator, sinks)
    with ExitStack() as stack:
        if not may_drop:
            layers.keep_still()
        if layers.prefix.num_layers and experiment.cache_gb:
            layers.open(stack)
            record.frozen_layers = layers.about()
        with layers.hooked():
            yield
        record.frozen_layers = layers.about()


class FrozenLayersInTraining:
    """The frozen layers of a model and, where they can be left out, what they give for the rows of a run."""

    def __init__(
        self,
        adapted: Adapted,
        stages: Sequence[Stage],
        experiment: Experiment,
        accelerator: "Accelerator",
        sinks: Sinks,
    ) -> None:
        self.adapted, self.experiment, self.accelerator, self.sinks = adapted, experiment, accelerator, sinks
        self.rows = list(rows_of(stages))
        self.sample = _sample(self.rows[0], adapted, accelerator.device)
        self.is_still = False
        self.cache: PrefixCache | None = None
        self.reason, self.num_read, self.has_told = "", 0, False
        adapted.model.eval()
        with self._computing():
            self.prefix = FrozenPrefix(adapted.backbone, adapted.routers, self.sample)

    def keep_still(self) -> None:
        """Let the frozen layers drop nothing from now on, and tell whether they would."""
        drops = bool(self.prefix.num_layers) and (self.adapted.sharded or self._is_random())
        self.is_still = True
        where = f"the dropout of the lowest {self.prefix.num_layers} layers, which are frozen, is off"
        nothing = "changes nothing: below what trains there is no layer with dropout"
        self._note(f"{where} (train.frozen_dropout=false)" if drops else f"train.frozen_dropout=false {nothing}")

    def open(self, stack: ExitStack) -> None:
        """Compute the rows that the cache lacks, and tell whether the layers are left out from now on."""
        self.reason = _first(self._obstacle()) or self._opened(stack)
        frozen = f"the lowest {self.prefix.num_layers} of {self.adapted.backbone.num_layers} layers are frozen"
        if self.cache is None:
            self._note(f"{frozen}, and each pass computes them: {self.reason}")
            return
        size, rows = f"{self.cache.bytes / 1e6:,.1f} MB", f"{self.cache.num_rows:,} rows"
        self._note(f"{frozen}: what they give for {rows} is read from {self.cache.folder} ({size})")

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Let the model's forward passes inside leave out what they can."""
        model = self.adapted.model
        before = model.register_forward_pre_hook(self._before, with_kwargs=True)
        after = model.register_forward_hook(self._after, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def about(self) -> FrozenLayers:
        """Return what the record keeps."""
        if self.cache is None:
            return {"layers": 0, "reason": self.reason} if self.reason else {}
        return {
            "layers": self.prefix.num_layers,
            "bytes": self.cache.bytes,
            "rows_built": self.cache.built,
            "rows_read": sum(distributed.all_gather([self.num_read])),
        }

    def _note(self, message: str) -> None:
        self.sinks.write(Noted(message=message))

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.is_still and module.training:
            self.prefix.hold_still()
        if self.cache is not None and (states := self._read(args, kwargs)) is not None:
            self.prefix.skip(states)

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        self.prefix.restore()

    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """Return the hidden states [B, T, D] with which a forward pass of these arguments can begin, if it can."""
        others = (value for name, value in kwargs.items() if name not in PLAIN)
        ids, mask = kwargs.get("input_ids"), kwargs.get("attention_mask")
        if args or any(value is not None and value is not False for value in others) or ids is None or mask is None:
            return None
        assert self.cache is not None
        keys = keys_of(ids, mask, kwargs.get("token_type_ids"))
        states = self.cache.states.batch(keys, ids.shape[1]) if keys else None
        if states is None:
            self._tell_damage()
            return None
        self.num_read += len(keys or ())
        return on_its_way(ids.device, states)

    def _tell_damage(self) -> None:
        """Tell once that rows which are kept cannot be read."""
        if self.cache is not None and self.cache.states.problem and not self.has_told:
            self.has_told = True
            self._note(f"{self.cache.states.problem}, so batches with its rows are computed; {WAY_OUT}")

    def _obstacle(self) -> str:
        """Return why the frozen layers cannot be left out, "" if nothing is known against it."""
        tokens = self.adapted.tokens
        if self.adapted.sharded:
            return "hardware.shard divides their weights among processes"
        if self.experiment.hardware.compile:
            return "hardware.compile takes the model as a whole"
        if tokens is not None and tokens.count_padding:
            return "method.count_padding routes padding too, for which nothing is kept"
        if tokens is not None and tokens.attend_padding:
            return "method.attend_padding lets padding be seen, for which nothing is kept"
        if why := self._misfit():
            return why
        if not self._is_random():
            return ""
        if self.is_still:
            return "the model drops out between them; with model.dropout=0 it does not"
        return "they have dropout; train.frozen_dropout=false keeps it off and reads from the cache what they give"

    def _opened(self, stack: ExitStack) -> str:
        """Open the cache with all rows in it; return why that cannot be, "" if it is done."""
        cache_dir = Path(self.experiment.cache_dir) if self.experiment.cache_dir else default_cache_dir()
        cache = PrefixCache(
            folder=cache_dir / cached_prefixes.FOLDER / self._key(),
            prefix=self.prefix,
            rows=self.rows,
            batch_size=self.experiment.train.eval_batch_size,
            device=self.accelerator.device,
            sinks=self.sinks,
        )
        stack.callback(cache.states.close)
        if problem := _first(_locked(cache.folder, stack)):
            return problem
        with self._computing():
            self.adapted.model.eval()
            problem = cache.filled(self.experiment.cache_gb) or _first(self._mismatch(cache))
        self.cache = None if problem else cache
        return problem

    def _key(self) -> str:
        """Return a hash of all that decides what the frozen layers give for a row."""
        hardware = self.experiment.hardware
        numbers = [hardware.precision.name, hardware.base.name, torch.get_float32_matmul_precision()]
        versions = [FORMAT, torch.__version__, transformers.__version__, self.accelerator.device.type]
        return hashlib.sha256(json.dumps([self.prefix.identity(), numbers, versions]).encode()).hexdigest()[:32]

    def _is_random(self) -> bool:
        """Return whether the frozen layers give other outputs for the same rows when they train."""
        self.adapted.model.train()
        if self.is_still:
            self.prefix.hold_still()
        with self._computing():
            try:
                return self.prefix.is_random(self.sample)
            except Exception:  # of a family whose upper layers cannot be left out
                return True

    def _misfit(self) -> str:
        """Return why the layers of this family cannot be left out, "" if a few rows show nothing against it."""
        self.adapted.model.eval()
        widths = [self.sample["input_ids"].shape[1], self.adapted.pad_to or 0, *(rows.longest for rows in self.rows)]
        with self._computing():
            return misfit(self.prefix, self.sample, max(widths), self._close)

    @property
    def _close(self) -> float:
        return CLOSE if self.experiment.hardware.precision is Precision.fp32 else CLOSE_IN_BF16

    def _mismatch(self, cache: PrefixCache) -> str:
        """Return how far passes that read what was kept are off, "" if they are not: on a few rows, also of others."""
        mask, ids = self.sample["attention_mask"], self.sample["input_ids"]
        keys = keys_of(ids, mask, self.sample.get("token_type_ids"))
        states = cache.states.batch(keys or [], ids.shape[1])
        if states is None:
            return f"{cache.states.problem}; {WAY_OUT}" if cache.states.problem else ""
        difference = off_by(self.prefix, self.sample, states.to(ids.device))
        if difference <= self._close:
            return ""
        return f"with what {cache.folder} has of them outputs are off by {difference:.1g}; {WAY_OUT}"

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Let forward passes inside leave no trace."""
        with torch.no_grad(), self.adapted.uncounted(), self.accelerator.autocast():
            yield


def _sample(rows: Rows, adapted: Adapted, device: torch.device) -> Batch:
    """Return a few rows of all lengths as the model takes them."""
    ordered = sorted(rows.by_key.values(), key=lambda row: rows.tokens([row]))
    few = ordered[:: max(1, len(ordered) // SAMPLE)][-SAMPLE:]
    return inputs(rows.encoded, few, adapted.backbone, device)


def _locked(folder: Path, stack: ExitStack) -> str:
    """Hold a folder of the cache until the stack ends; return what the disk says against it."""
    try:
        stack.enter_context(cached_prefixes.in_use(folder))
    except OSError as error:
        return str(disk_error(error) or f"{folder} must be a folder that can be written to, got {error.strerror}")
    return ""


def _first(problem: str) -> str:
    """Return the first problem that any process of the run has."""
    return next(filter(None, distributed.all_gather([problem])), "")
