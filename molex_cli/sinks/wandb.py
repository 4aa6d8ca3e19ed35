"""Weights & Biases: a best-effort mirror of the local files; offline where it cannot be reached."""

import math
import netrc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from molex_cli.events import Evaluated, Event, Finished, Started, Step
from molex_cli.schema import Log, Wandb

LIMIT_SECONDS = 30.0


class WandbSink:
    """Sends the events of one run to W&B, under the names of the record."""

    def __init__(self, settings: Log, folder: Path, run_id: str, note: Callable[[str], None]) -> None:
        self._settings, self._folder, self._run_id, self._note = settings, folder, run_id, note
        self._run: Any = None

    def write(self, event: Event) -> None:
        """Send one event."""
        match event:
            case Started():
                self._run = self._start(event)
            case Step() if self._run and event.step % self._settings.every == 0:
                self._run.log(_flat("train", event.as_dict(), skip=("event", "step")), step=event.step)
            case Evaluated() if self._run:
                values = {"loss": event.loss, **event.scores}
                self._run.log(_flat(event.split, values) | _routing(event.routing), step=event.step)
            case Finished() if self._run:
                self._summarise(event)

    def close(self) -> None:
        """Finish the W&B run; waits LIMIT_SECONDS for the server at most."""
        if self._run is not None:
            run, self._run = self._run, None
            run.finish()

    def _start(self, event: Started) -> Any:
        import wandb

        mode = chosen_mode(self._settings.wandb)
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        arguments: dict[str, Any] = {
            "project": self._settings.project,
            "entity": self._settings.entity,
            "dir": str(self._folder),
            "name": f"{event.name} s{event.seed}",
            "id": self._run_id,
            "resume": "allow",
            "group": event.variant,
            "job_type": "train",
            "tags": list(self._settings.tags),
            "config": {**event.settings, "variant": event.variant, "parameters": event.parameters},
            "settings": wandb.Settings(
                init_timeout=LIMIT_SECONDS, finish_timeout=LIMIT_SECONDS, silent=True, console="off"
            ),
        }
        try:
            return wandb.init(**arguments | {"mode": mode})
        except wandb.errors.Error as error:
            if mode == "offline":
                raise
            self._note(f"W&B cannot be reached, logging offline ({str(error).splitlines()[0]})")
            return wandb.init(**arguments | {"mode": "offline"})

    def _summarise(self, event: Finished) -> None:
        self._run.summary["status"] = event.status
        for which in ("last", "best"):
            for name, value in event.scores.get(which, {}).get("scores", {}).items():
                self._run.summary[f"{which}/{name}"] = value


def chosen_mode(setting: Wandb) -> str:
    """Return W&B's mode: `auto` is online when an API key is known, else offline."""
    if setting is not Wandb.auto:
        return setting.name
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    return "online" if _has_key() else "offline"


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _routing(routing: dict[str, dict[str, Any]]) -> dict[str, float]:
    values: dict[str, float] = {}
    for layer, figures in routing.items():
        shares = {f"expert_{expert}": share for expert, share in enumerate(figures["usage"])}
        values |= _flat(f"routing/layer_{layer}", shares | figures)
    return values


def _flat(prefix: str, values: dict[str, Any], skip: tuple[str, ...] = ()) -> dict[str, float]:
    return {
        f"{prefix}/{name}": value
        for name, value in values.items()
        if name not in skip and isinstance(value, int | float) and not math.isnan(value)
    }
