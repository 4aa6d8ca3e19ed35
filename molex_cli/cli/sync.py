"""`molex sync`: send to W&B what was logged offline, or what its server did not take in time."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from molex_cli.cli.parser import Parser
from molex_cli.config.schema import DAY_SECONDS
from molex_cli.errors import ConfigError
from molex_cli.runtime.paths import distinct, expanded
from molex_cli.runtime.streams import say

SUMMARY = "send runs that were logged offline to W&B"
MOST_SECONDS = 20 * DAY_SECONDS  # more overflow what an operating system waits
OUTPUTS = [Path("outputs")]


def main(argv: list[str]) -> int:
    """Send the runs of some folders; exit code 1 if one could not be sent whole."""
    options = _parser().parse(argv)
    if not 0 < options.timeout <= DAY_SECONDS:
        raise ConfigError(f"--timeout must be above 0 and at most {DAY_SECONDS}, a day, got {options.timeout}")
    from molex_cli.records import locks
    from molex_cli.tracking.wandb import require_server

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
    require_server()
    printed = _sync(logs, min(options.timeout * len(logs), MOST_SECONDS))
    left = [log for log in logs if not _sent(log)]
    if left:
        say(printed.strip(), file=sys.stderr)
    say(*(f"not sent: {log}" for log in left), f"{len(logs) - len(left)} of {len(logs)} sent")
    return 1 if left else 0


def _parser() -> Parser:
    parser = Parser("sync", __doc__, examples=("molex sync", "molex sync outputs --dry-run"))
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
    found = distinct(marker.parent for path in paths for marker in path.rglob(f"wandb/*run-*/{NOT_SENT}"))
    return sorted((log for log in found if not _sent(log)), key=lambda log: log.name.removeprefix("offline-"))


def _sent(log: Path) -> bool:
    """Return whether W&B's own sync has marked the log as sent; if so our marker goes."""
    from molex_cli.tracking.wandb import NOT_SENT

    done = any(log.glob("*.wandb.synced"))
    if done:
        (log / NOT_SENT).unlink(missing_ok=True)
    return done


def _sync(logs: Sequence[Path], seconds: float) -> str:
    """Let W&B's own command send the logs; return what it printed. It tries for ever where a server goes away."""
    # From the root on, for a name that begins with a dash would be taken for a flag.
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", *(str(log.absolute()) for log in logs)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=_environment())
    except subprocess.TimeoutExpired:
        return f"W&B's server took longer than {seconds:.0f} s"
    return done.stdout + done.stderr


def _environment() -> dict[str, str]:
    from molex_cli.tracking.wandb import LEFT_OUT

    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
