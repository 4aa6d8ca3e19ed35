"""What must hold after every try, whatever was damaged."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fuzz.runner import MARK, SECONDS, Ended, Place
from fuzz.tries import Try, folder_of
from fuzz.workspace import Command, run_of

LINES = 40  # of complaint
CHARACTERS = 2000  # of a line of it
ALWAYS = ("cache", "tmp", "streams", "home/.cache", "home/.config", "home/.local")  # what any program may write
BESIDE = {"here", "template", "resumed", "home", "tmp", "matplotlib"}
KEPT = (".lock", ".begun.json", ".index")  # that begin with a dot and may stay
ARMS = {"mola": "MoLA", "lora": "LoRA", "bitfit": "BitFit"}
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
WARNING = re.compile(r"^\S+\.py:\d+: \w*Warning", re.MULTILINE)
MARKUP = {
    "html": re.compile(r"<script>document|<img src=x|href=.?javascript:"),
    "md": re.compile(r"<script>document|<img src=x"),
    "csv": re.compile(r"(^|[,\"])=cmd", re.MULTILINE),
    "latex": re.compile(r"^[^%\n]*\\(input\{/etc|write18)", re.MULTILINE),
}
"""What the hostile texts would do in each format, by the name of the format."""
OPEN = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Broken:
    """A law that a try broke."""

    law: str
    detail: str


@dataclass(frozen=True)
class After:
    """A place after a command, and how it was before."""

    place: Place
    each: Try
    command: Command
    ended: Ended
    before: dict[str, tuple[int, ...]]
    reference: Place
    """A place in which the interrupted run was resumed undisturbed."""

    @property
    def changed(self) -> list[str]:
        """Return the files that are new, gone or other."""
        now = snapshot(self.place)
        return sorted(name for name in {*self.before, *now} if self.before.get(name) != now.get(name))


def snapshot(place: Place) -> dict[str, tuple[int, ...]]:
    """Return size, time and kind of every file of a place, the kind of every folder."""
    found = {}
    for folder, folders, files in os.walk(place.folder):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            about = os.lstat(path)
            is_folder = os.path.isdir(path) and not os.path.islink(path)
            found[os.path.relpath(path, place.folder)] = (
                (about.st_mode,) if is_folder else (about.st_mode, about.st_size, about.st_mtime_ns)
            )
    return found


def broken(after: After) -> list[Broken]:
    """Return every law that a try broke."""
    return [Broken(law.__name__.strip("_").replace("_", " "), detail) for law in LAWS for detail in law(after)]


def _whole_files_are_worked_on(after: After) -> Iterator[str]:
    if after.each == Try(after.command.name) and after.ended.code:
        yield f"exit code {after.ended.code}: {_tail(after.ended)}"


def _it_ends_in_time(after: After) -> Iterator[str]:
    if (after.ended.stopped or after.ended.busy > SECONDS) and not _trains(after):
        yield f"took more than {SECONDS:.0f} s ({', '.join(after.ended.stopped)})"


def _its_exit_code_is_0_1_or_2(after: After) -> Iterator[str]:
    allowed = (0, 1, 2, 130) if after.ended.stopped else (0, 1, 2)
    if after.ended.code not in allowed and not (after.ended.stopped and not _trains(after)):
        yield f"exit code {after.ended.code}: {_tail(after.ended)}"


def _it_shows_no_traceback(after: After) -> Iterator[str]:
    shown = [after.ended.out, after.ended.err, *_consoles(after)]
    yield from (_last_frame(text) for text in shown if OPEN in text)


def _a_failure_is_told(after: After) -> Iterator[str]:
    ended = after.ended
    if ended.code in (1, 2) and OPEN not in ended.out + ended.err and "molex: " not in ended.err:
        shown = re.search(r"^(failed: .|failed  |not sent: |\{.*\"error\")|  failed  ", ended.out, re.MULTILINE)
        if not shown:
            yield f"exit code {ended.code} without a line about it: {_tail(ended)}"


def _a_complaint_is_short(after: After) -> Iterator[str]:
    if OPEN in after.ended.err:
        return
    lines = after.ended.err.splitlines()
    if len(lines) > LINES:
        yield f"{len(lines)} lines of complaint, the last one {lines[-1][:300]}"
    yield from (f"a line of {len(line)} characters: {line[:300]}" for line in lines if len(line) > CHARACTERS)


def _no_library_speaks(after: After) -> Iterator[str]:
    yield from (match[0] for match in WARNING.finditer(after.ended.err + after.ended.out))


def _no_control_character_is_shown(after: After) -> Iterator[str]:
    for text in (after.ended.out, after.ended.err):
        if found := CONTROL.search(text):
            yield f"{found[0]!r} in {text[max(0, found.start() - 60) : found.end() + 30]!r}"


def _nothing_else_is_touched(after: After) -> Iterator[str]:
    for name in after.changed:
        if not name.startswith(ALWAYS) and not after.command.may_write(name) and not name.endswith("/.lock"):
            yield f"{name} was touched"
    beside = {path.name for path in after.place.folder.parent.iterdir()} - BESIDE
    yield from (f"{name} was made beside the place" for name in beside)


def _no_secret_is_kept_or_shown(after: After) -> Iterator[str]:
    for text in (after.ended.out, after.ended.err):
        if MARK in text:
            yield f"shown: {text[max(0, text.index(MARK) - 100) : text.index(MARK)]!r}"
    for name in after.changed:
        path = after.place.folder / name
        if MARK in name:
            yield f"{name} is named after it"
        elif path.is_file() and not path.is_symlink() and MARK.encode() in path.read_bytes():
            yield f"{name} holds it"


def _nothing_half_written_stays(after: After) -> Iterator[str]:
    for name in after.changed:
        last = Path(name).name
        is_new = name not in after.before and (after.place.folder / name).exists()
        if is_new and name.startswith("work/") and last.startswith(".") and not last.startswith(KEPT):
            yield f"{name} stays"


def _compare_shows_the_other_runs(after: After) -> Iterator[str]:
    if not after.command.compares or OPEN in after.ended.err or after.ended.stopped:
        return
    damaged = folder_of(after.each.file)
    work = after.reference.work
    expected = [arm for method, arm in ARMS.items() if method == "lora" or run_of(work, method, 0) != damaged]
    if missing := [arm for arm in expected if arm not in _shown(after)]:
        yield f"{', '.join(missing)} not shown, exit code {after.ended.code}: {_tail(after.ended)}"


def _no_text_is_markup(after: After) -> Iterator[str]:
    form = after.command.name.removeprefix("compare ")
    if form in MARKUP and (found := MARKUP[form].search(_shown(after))):
        yield f"{found[0]!r} is live in {form}"


def _shown(after: After) -> str:
    """Return what a command showed, or wrote as a page."""
    page = after.place.work / "page.html"
    return page.read_text(errors="replace") if page.is_file() else after.ended.out


def _a_resumed_run_ends_as_an_undisturbed_one(after: After) -> Iterator[str]:
    if not after.command.resumes or after.ended.code:
        return
    name = run_of(after.reference.work, "mola", 7)
    expected = _results(after.reference.work / name)
    finished = [path.parent for path in after.place.work.glob(f"{name}*/record.json") if _is_finished(path)]
    if not finished:
        yield "exit code 0 and no finished record"
    yield from (f"{folder.name} ended with other results" for folder in finished if _results(folder) != expected)


def _results(folder: Path) -> tuple[object, ...]:
    scores = json.loads((folder / "record.json").read_text())["scores"]
    files = ("predictions-last.jsonl", "predictions-best.jsonl")
    read = [(folder / name).read_text() if (folder / name).is_file() else "" for name in files]
    return (scores, *read, *_tensors(folder))


def _tensors(folder: Path) -> Iterator[dict[str, list]]:
    from safetensors.torch import load_file

    for name in ("adapter-last.safetensors", "adapter-best.safetensors"):
        path = folder / name
        yield {key: tensor.tolist() for key, tensor in load_file(path).items()} if path.is_file() else {}


def _is_finished(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text())["status"] == "finished")
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _trains(after: After) -> bool:
    """Return whether a command that was stopped had begun to train: that may take long."""
    events = (after.place.folder / name for name in after.changed if name.endswith("events.jsonl"))
    return any(path.is_file() and '"event": "step"' in path.read_text(errors="replace") for path in events)


def _consoles(after: After) -> Iterator[str]:
    paths = (after.place.folder / name for name in after.changed if name.endswith("console.log"))
    yield from (path.read_text(errors="replace") for path in paths if path.is_file())


def _last_frame(text: str) -> str:
    """Return what ended a traceback and the last function of molex in it."""
    frames = re.findall(r'File "\S*/molex_cli/(\S+)", line \d+, in (\S+)', text)
    errors = re.findall(r"^[\w.]*(?:Error|Exception|Exit|Interrupt|Expired)\b.*", text.split(OPEN)[-1], re.MULTILINE)
    return f"{':'.join(frames[-1]) if frames else '?'}: {errors[-1][:300] if errors else text[-300:]}"


def _tail(ended: Ended) -> str:
    return repr((ended.err or ended.out)[-300:])


LAWS: tuple[Callable[[After], Iterator[str]], ...] = (
    _whole_files_are_worked_on,
    _it_ends_in_time,
    _its_exit_code_is_0_1_or_2,
    _it_shows_no_traceback,
    _a_failure_is_told,
    _a_complaint_is_short,
    _no_library_speaks,
    _no_control_character_is_shown,
    _nothing_else_is_touched,
    _no_secret_is_kept_or_shown,
    _nothing_half_written_stays,
    _compare_shows_the_other_runs,
    _no_text_is_markup,
    _a_resumed_run_ends_as_an_undisturbed_one,
)
