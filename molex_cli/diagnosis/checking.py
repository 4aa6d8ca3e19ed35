"""Checks side by side: one that fails, hangs or says a secret costs its own line alone."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from molex_cli.errors import reason_of
from molex_cli.records.secrets import hidden

LIMIT_SECONDS = 15.0  # for all checks together: torch alone takes most of it on a busy machine


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    works: bool
    """Whether what it looked at can be used as it is."""
    text: str
    """One line, with the way out where something is missing."""


Check = Callable[[], Finding]


def findings(checks: Mapping[str, Check], seconds: float = LIMIT_SECONDS) -> dict[str, Finding]:
    """Return what each check found, in their order; one without an answer in time is told as that."""
    found: dict[str, Finding] = {}
    threads = []
    for name, check in checks.items():
        # A name server or a disk that hangs has no time limit of its own; a daemon does not hold up the end.
        threads.append(threading.Thread(target=_into, args=(found, name, check), daemon=True))
        threads[-1].start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = Finding(False, f"gave no answer within {seconds:g} s")
    in_time = dict(found)
    return {name: _without_secrets(in_time.get(name, late)) for name in checks}


def _into(found: dict[str, Finding], name: str, check: Check) -> None:
    try:
        found[name] = check()
    except Exception as error:  # whatever is broken here, the other checks answer
        found[name] = Finding(False, f"could not be checked ({type(error).__name__}: {reason_of(error)})")


def _without_secrets(finding: Finding) -> Finding:
    return Finding(finding.works, " ".join(hidden(finding.text).split()))
