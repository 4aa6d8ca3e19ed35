"""Tries until the time is over, and what came of them."""

import json
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from fuzz import workspace as made
from fuzz.drawing import tries
from fuzz.laws import After, Broken, broken, snapshot
from fuzz.runner import SECONDS, Molex, Place, copied
from fuzz.tries import Try, Workspace, arguments, command_of, do_damage, workspace

BUSY_SECONDS = 60.0  # that a command may take on a machine that has much else to do
WAITS_BELOW = 1.0  # seconds of a processor: a command that took less was waiting for something
LONG_SECONDS = 600.0
CHUNK = 100  # tries that one seed gives


@dataclass
class Found:
    """A way to break a law, with the first try that found it."""

    law: str
    detail: str
    first: str
    """The try, as JSON."""
    times: int = 1


@dataclass
class Report:
    """What was tried, and what did not hold."""

    tried: Counter[str] = field(default_factory=Counter)
    """Tries by command and by what was odd."""
    held: Counter[str] = field(default_factory=Counter)
    found: dict[str, Found] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, name: str, each: Try, laws: list[Broken]) -> None:
        """Count one try."""
        for key in ("all", f"command {name}", each.family):
            self.tried[key] += 1
            self.held[key] += not laws
        for law in laws:
            key = _kind(law, name, each)
            if key in self.found:
                self.found[key].times += 1
            else:
                self.found[key] = Found(law.law, law.detail, str(each))

    def merge(self, other: "Report") -> None:
        """Add what another process tried."""
        self.tried += other.tried
        self.held = Counter({**self.held}) + other.held
        self.seconds = max(self.seconds, other.seconds)
        for key, found in other.found.items():
            if key in self.found:
                self.found[key].times += found.times
            else:
                self.found[key] = found

    def __str__(self) -> str:
        lines = [f"{'tried':>8}{'held':>8}"]
        lines += [f"{count:>8}{self.held[key]:>8}  {key}" for key, count in sorted(self.tried.items())]
        ordered = sorted(self.found.items(), key=lambda item: -item[1].times)
        lines += [f"{each.times} x  {key}\n    {each.detail!r}\n    {each.first}" for key, each in ordered]
        rate = self.tried["all"] / max(self.seconds, 1e-9)
        told = f"tried {self.tried['all']}, held {self.held['all']}"
        lines.append(f"{told}, in {self.seconds:.0f} s ({rate:.2f} a second)")
        return "\n".join(lines)


def _kind(law: Broken, name: str, each: Try) -> str:
    """Return by what two failures are the same: the place of a traceback, else the command and what was odd."""
    if "traceback" in law.law:
        frame, _, error = law.detail.partition(": ")
        return f"{law.law}: {frame} {error.split(':')[0][:60]}"
    if "control character" in law.law:
        return f"{law.law}: {name}"
    odd = each.arguments[-1].partition("=")[0] if each.arguments else each.kind
    shown = re.sub(r"[0-9]+", "#", json.dumps(odd)[1:-1])[:60]  # it may hold what a terminal acts on
    return f"{law.law}: {name} {shown} {' '.join(each.environment)}".strip()


@dataclass
class Fuzzer:
    """The server and the template, ready for tries."""

    molex: Molex
    folder: Path
    space: Workspace
    reference: Place

    def run(self, each: Try) -> list[Broken]:
        """Do one try; one that takes too long and computes is tried again with more time: the machine may be busy."""
        for seconds in (SECONDS, BUSY_SECONDS):
            place = copied(self.space.template, self.folder / "here")
            do_damage(place, each)
            before = snapshot(place)
            command = command_of(self.space, each)
            environment = {**dict(command.environment), **each.environment}
            ended = self.molex.run(place, arguments(self.space, each), environment, seconds=seconds)
            after = After(place, each, command, ended, before, self.reference)
            if not ended.stopped or ended.busy < WAITS_BELOW:
                break
        return broken(after)


def opened(molex: Molex, folder: Path) -> Fuzzer:
    """Return a fuzzer with its template made in a folder."""
    template = made.build(molex, folder)
    reference = made.resumed(molex, template, folder / "here")
    shutil.move(reference.folder, folder / "resumed")
    return Fuzzer(molex, folder, workspace(template), Place(folder / "resumed"))


@dataclass(frozen=True)
class Part:
    """What one of several processes tries: seeds `seed + number`, and on in steps of `workers`."""

    number: int = 0
    seconds: float = 0.0
    workers: int = 1
    seed: int = 0
    only: str = ""
    """A regular expression of the commands; empty takes all."""
    report: Path | None = None
    """Where the report is written again and again."""


def part(wanted: Part) -> Report:
    """Be one of several processes that fuzz."""
    with tempfile.TemporaryDirectory(prefix="molex-fuzz-") as folder, Molex(Path(folder)) as molex:
        return fuzz(opened(molex, Path(folder)), wanted)


def fuzz(fuzzer: Fuzzer, wanted: Part) -> Report:
    """Try for some seconds; a long part begins with every command on whole files, or the rest would prove little."""
    report, begun, number = Report(), time.monotonic(), wanted.seed + wanted.number

    def one(each: Try) -> None:
        name = each.command or f"{each.arguments[0]} ..."
        if time.monotonic() - begun > wanted.seconds or not re.search(wanted.only, name):
            return
        report.add(name, each, _laws(fuzzer, each))
        report.seconds = time.monotonic() - begun
        if wanted.report:
            path = wanted.report.with_name(f"{wanted.report.name}-{wanted.number}")
            path.write_text(f"{report}\n", errors="backslashreplace")

    for name in fuzzer.space.commands if wanted.seconds >= LONG_SECONDS else ():
        one(Try(name))
    while time.monotonic() - begun < wanted.seconds:
        _chunk(fuzzer.space, number, one)
        number += wanted.workers
    return report


def _laws(fuzzer: Fuzzer, each: Try) -> list[Broken]:
    try:
        return fuzzer.run(each)
    except Exception as error:  # an hour is not to end for one file that the laws cannot read
        return [Broken("the fuzzer can judge", f"{type(error).__name__}: {error}")]


def _chunk(space: Workspace, number: int, one: Callable[[Try], None]) -> None:
    """Let hypothesis make the tries of one seed; none is made smaller, for each is one damage already."""
    quick = settings(
        max_examples=CHUNK,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    quick(seed(number)(given(tries(space))(one)))()
