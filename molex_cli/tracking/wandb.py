"""Weights & Biases: a best-effort mirror of the local files; offline where it cannot be reached."""

import math
import netrc
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from molex_cli.compare.heat_map import usage_map
from molex_cli.compare.plots import png
from molex_cli.config.schema import Log, LoggedRouting, Wandb
from molex_cli.errors import ConfigError
from molex_cli.records import read_rows
from molex_cli.records.secrets import hidden, shown
from molex_cli.runtime.streams import say_once
from molex_cli.tracking.events import Evaluated, Event, Finished, Started, Step

PICTURE = "validation/routing/usage"
"""A section of W&B is what stands before the first slash, and it sorts them: losses and scores come before this."""
SUMMARIES = ("utilisation", "entropy", "margin", "most_used")
"""Of a layer, where it has them; `most_used` is the largest share times the number of experts: 1 is uniform."""
NOT_SENT = "not-sent"  # a file beside a run's W&B log until the server has all of it
LEFT_OUT = ("WANDB_MODE", "WANDB_SILENT")  # offline `wandb sync` would send nothing, silent it would not say why
REACHABLE_SECONDS = 10.0
TABLE_ROWS = 10_000
OLD_MODES = {"dryrun": "offline", "run": "online"}
TRUE = ("1", "t", "true", "y", "yes", "on")  # what W&B takes for true in its environment, in any case


class WandbSink:
    """Sends the events of one run to W&B, under the names of the record."""

    def __init__(self, settings: Log, folder: Path, run_id: str, note: Callable[[str], None]) -> None:
        self._settings, self._folder, self._run_id, self._note = settings, folder, run_id, note
        self._run: Any = None
        self._routing: dict[str, dict[str, Any]] = {}
        self._exit_code = 1  # until the run has finished

    def write(self, event: Event) -> None:
        """Send one event."""
        match event:
            case Started():
                self._run = self._start(event)
                _marker(self._run).touch()
                if self._run.url:
                    self._note(f"W&B shows this run at {self._run.url}")
            case Step() if self._run and event.step % self._settings.every == 0:
                self._run.log(_flat("train", event.as_dict(), skip=("event", "step")), step=event.step)
            case Evaluated() if self._run:
                self._routing = event.routing
                values = {"loss": event.loss, **event.scores}
                routing = _routing(event, self._settings.routing)
                self._run.log(_flat(event.split, values) | routing, step=event.step)
            case Finished() if self._run:
                self._run.summary.update(_summary(event))
                self._exit_code = 0 if event.status == "finished" else 1
                self._run.log(self._pictures())

    def close(self) -> None:
        """Finish the W&B run; waits `log.timeout` seconds for the server at most."""
        if self._run is None:
            return
        run, self._run = self._run, None
        try:
            run.finish(exit_code=self._exit_code)
        except TimeoutError:
            self._note("W&B did not take the whole run in time; `molex sync` sends the rest")
            return
        if not run.offline:
            _marker(run).unlink(missing_ok=True)

    def _start(self, event: Started) -> Any:
        import wandb

        mode = chosen_mode(self._settings.wandb)
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        arguments: dict[str, Any] = {
            "project": self._settings.project,
            "entity": self._settings.entity,
            "dir": str(self._folder),
            "name": f"{event.name} s{event.seed}"[-128:],
            "id": self._run_id,
            "resume": "allow",
            "group": event.variant,
            "job_type": "train",
            "tags": list(self._settings.tags),
            "config": _config(event),
            "settings": wandb.Settings(
                init_timeout=self._settings.timeout,
                finish_timeout=self._settings.timeout,
                finish_timeout_raises=True,
                silent=True,
                console="off",
            ),
        }
        if mode == "offline":
            return wandb.init(**arguments | {"mode": mode})
        try:
            return wandb.init(**arguments | {"mode": mode})
        except Exception as error:  # whatever W&B raises, also what is none of its public classes
            reason = in_one_line(error)
        wandb.teardown()  # or W&B's own process would hold the id of the run that could not start
        run = wandb.init(**arguments | {"mode": "offline"})
        self._note(f"W&B cannot be reached, logging offline; `molex sync` sends the run later ({reason})")
        return run

    def _pictures(self) -> dict[str, Any]:
        """Return a picture of the routing at the last evaluation and, if wanted, the last predictions."""
        import wandb
        from PIL import Image

        found: dict[str, Any] = {}
        if self._routing and self._settings.routing is not LoggedRouting.none:
            layers = [f"layer {layer}" for layer in self._routing]
            usage = [statistics["usage"] for statistics in self._routing.values()]
            drawn = usage_map("use of the experts", layers, usage)
            found[PICTURE] = wandb.Image(Image.open(png(drawn)))
        path = self._folder / "predictions-last.jsonl"
        if self._settings.predictions and path.exists() and path.stat().st_size:
            rows = read_rows(path)
            if len(rows) > TABLE_ROWS:
                self._note(f"W&B gets the first {TABLE_ROWS:,} of {len(rows):,} predictions")
            rows = rows[:TABLE_ROWS]
            columns = list(rows[0])
            cells = [[row.get(name) for name in columns] for row in rows]
            found["predictions/last"] = wandb.Table(columns=columns, data=cells, allow_mixed_types=True)
        return found


def chosen_mode(setting: Wandb) -> str:
    """Return W&B's mode: `auto` is what its environment says, else online when an API key is known, else offline."""
    if setting is not Wandb.auto:
        return setting.name
    if os.environ.get("WANDB_DISABLED", "").lower() in TRUE:
        return "disabled"
    if mode := os.environ.get("WANDB_MODE"):
        return OLD_MODES.get(mode, mode)
    return "online" if has_key() else "offline"


def require_usable(settings: Iterable[Wandb]) -> None:
    """Raise ConfigError if one of the settings uses W&B, and W&B cannot read its own environment."""
    if all(chosen_mode(setting) == "disabled" for setting in settings):
        return
    if problems := list(environment_problems()):
        raise ConfigError(f"{problem}; unset it, or set log.wandb=disabled" for problem in problems)


def environment_problems(left_out: Collection[str] = ()) -> Iterator[str]:
    """Yield what is wrong with W&B's variables, by its own rules."""
    names = sorted(name for name in os.environ if name.startswith("WANDB_") and name not in left_out)
    if not names:
        return
    import wandb

    for name in names:
        try:
            wandb.Settings().update_from_env_vars({name: os.environ[name]})
        except (ValueError, wandb.errors.Error) as error:
            yield f"{name} must be what W&B takes, got {shown(name)} ({in_one_line(error)})"


def server() -> str:
    """Return the address of W&B's server."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def has_key() -> bool:
    """Return whether the environment or netrc has an API key for the server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = os.environ.get("NETRC", "~/.netrc")
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(server()).netloc) is not None
    except FileNotFoundError:
        return False
    except (OSError, netrc.NetrcParseError, ValueError) as error:
        # Of a file that is no netrc nothing is quoted: what netrc calls a bad word may be the key.
        line = getattr(error, "lineno", None)
        reason = in_one_line(error) if line is None else f"a line that is not netrc's, {line}"
        say_once(f"{path} must be a file that can be read for W&B's API key, got: {reason}")
        return False


def require_server() -> None:
    """Raise ConfigError unless W&B's variables can be read, an API key is known and the server answers."""
    if problems := list(environment_problems(left_out=LEFT_OUT)):
        raise ConfigError(problems)
    if not has_key():
        raise ConfigError("WANDB_API_KEY must be set, or `wandb login` done, got neither")
    try:
        urllib.request.urlopen(server(), timeout=REACHABLE_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(
            f"W&B's server must answer within {REACHABLE_SECONDS:.0f} s, got {server()}: {reason}"
        ) from None


def in_one_line(error: Exception) -> str:
    """Return what an error says, in one line."""
    found = getattr(error, "errors", None)  # of pydantic, whose own text has an address and the value, too
    text = str(found()[0]["msg"]) if callable(found) else str(error)
    return next(iter(hidden(text).splitlines()), type(error).__name__)


def _config(event: Started) -> dict[str, Any]:
    return {
        **event.settings,
        "name": event.name,
        "variant": event.variant,
        "parameters": event.parameters,
        "experts_per_layer": event.experts_per_layer,
        "rank_per_layer": event.rank_per_layer,
        "flops_per_token": event.flops_per_token,
        "data": event.data,
    }


def _summary(event: Finished) -> dict[str, Any]:
    found: dict[str, Any] = {"status": event.status, "error": event.error, "degenerate": event.degenerate}
    for which in ("last", "best"):
        found |= _flat(which, event.scores.get(which, {}).get("scores", {}))
    return found | _flat("training", event.training) | _flat("memory_bytes", event.memory_bytes)


def _marker(run: Any) -> Path:
    return Path(run.settings.sync_dir) / NOT_SENT


def _routing(event: Evaluated, wanted: LoggedRouting) -> dict[str, float]:
    """Return what is sent of an evaluation's routing, by name."""
    if wanted is LoggedRouting.none:
        return {}
    values: dict[str, float] = {}
    for layer, statistics in event.routing.items():
        known = [share for share in statistics["usage"] if share is not None]
        all_of_it = {**statistics, "most_used": max(known, default=math.nan) * len(statistics["usage"])}
        chosen = {name: all_of_it[name] for name in SUMMARIES if name in all_of_it}
        values |= _flat(f"{event.split}/routing/layer_{layer}", chosen)
    if wanted is LoggedRouting.full:
        stage = event.split.rpartition("/")[0]  # of a run that learns task after task
        values |= _flat_routing(f"{stage}/routing" if stage else "routing", event.routing)
        values |= _flat_routing("training_routing", event.training_routing)
    return values


def _flat_routing(prefix: str, routing: dict[str, dict[str, Any]]) -> dict[str, float]:
    values: dict[str, float] = {}
    for layer, statistics in routing.items():
        shares = {f"expert_{expert}": share for expert, share in enumerate(statistics["usage"])}
        shares |= {f"gate_{expert}": gate for expert, gate in enumerate(statistics.get("gate", []))}
        values |= _flat(f"{prefix}/layer_{layer}", shares | statistics)
        for module, each in statistics.get("modules", {}).items():
            values |= _flat(f"{prefix}/layer_{layer}/{module}", each)
    return values


def _flat(prefix: str, values: Mapping[str, Any], skip: tuple[str, ...] = ()) -> dict[str, float]:
    return {
        f"{prefix}/{name}": value
        for name, value in values.items()
        if name not in skip and isinstance(value, int | float) and not math.isnan(value)
    }
