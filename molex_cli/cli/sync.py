"""`molex sync`: send to W&B what was logged offline, or what its server did not take in time."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from molex_cli.cli.parser import Parser
from molex_cli.errors import ConfigError
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

SUMMARY = "send to W&B the runs that were logged offline"
REACHABLE_SECONDS = 10.0
OUTPUTS = [Path("outputs")]


def main(argv: list[str]) -> int:
    """Send the runs of some folders; exit code 1 if one could not be sent whole."""
    options = _parser().parse(argv)
    if options.timeout <= 0:
        raise ConfigError(f"--timeout must be above 0, got {options.timeout}")
    from molex_cli.records import locks
    from molex_cli.tracking.wandb import has_key, server

    logs, running = [], 0
    for log in _waiting(options.paths):
        if locks.is_locked(log.parent.parent):
            running += 1
        else:
            logs.append(log)
    if running:
        say(f"left alone: {running} still running")
    if not logs:
        say("nothing to send")
        return 0
    if options.dry_run:
        say(*logs)
        return 0
    if not has_key():
        raise ConfigError("WANDB_API_KEY must be set, or `wandb login` done, got neither")
    _require_reachable(server())
    printed = _sync(logs, options.timeout * len(logs))
    left = [log for log in logs if not _sent(log)]
    if left:
        say(printed.strip(), file=sys.stderr)
    say(*(f"not sent: {log}" for log in left), f"{len(logs) - len(left)} of {len(logs)} sent")
    return 1 if left else 0


def _parser() -> Parser:
    parser = Parser("sync", __doc__)
    parser.add_argument("paths", nargs="*", type=expanded, default=OUTPUTS, help="folders of runs (default: outputs)")
    parser.add_argument("--dry-run", action="store_true", help="only list what would be sent")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for each run (default: 60)")
    return parser


def _waiting(paths: Sequence[Path]) -> list[Path]:
    """Return the folders of W&B logs that the server does not have whole, oldest first."""
    from molex_cli.tracking.wandb import NOT_SENT

    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"paths must be folders of runs, got {path}")
    found = {marker.parent for path in paths for marker in path.rglob(f"wandb/*run-*/{NOT_SENT}")}
    return sorted((log for log in found if not _sent(log)), key=lambda log: log.name.removeprefix("offline-"))


def _sent(log: Path) -> bool:
    """Return whether W&B's own sync has marked the log as sent; if so our marker goes."""
    from molex_cli.tracking.wandb import NOT_SENT

    done = any(log.glob("*.wandb.synced"))
    if done:
        (log / NOT_SENT).unlink(missing_ok=True)
    return done


def _require_reachable(url: str) -> None:
    try:
        urllib.request.urlopen(url, timeout=REACHABLE_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(f"W&B's server must answer within {REACHABLE_SECONDS:.0f} s, got {url}: {reason}") from None


def _sync(logs: Sequence[Path], seconds: float) -> str:
    """Let W&B's own command send the logs; return what it printed. It tries for ever where a server goes away."""
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", *map(str, logs)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=_environment())
    except subprocess.TimeoutExpired:
        return f"W&B's server took longer than {seconds:.0f} s"
    return done.stdout + done.stderr


def _environment() -> dict[str, str]:
    left_out = ("WANDB_MODE", "WANDB_SILENT")  # offline it would send nothing, silent it would not say why
    return {name: value for name, value in os.environ.items() if name not in left_out}
