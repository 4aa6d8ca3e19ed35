"""Whether a path is the run that a command needs; if not, one sentence says what it is instead. No torch."""

import contextlib
import difflib
from collections.abc import Iterator
from pathlib import Path

from molex_cli.errors import CheckpointError, ConfigError, MethodError, RecordError
from molex_cli.records.record import Record, read_record

RECORD = "record.json"
OTHER = {"last": "best", "best": "last"}


def adapter_of(path: Path, which: str) -> Path:
    """Return the adapter file of a run's folder, or the path itself if it is one; raise where there is none."""
    if which not in OTHER:
        raise ConfigError(f"which must be last or best, got {which}")
    if path.is_file():
        if path.suffix != ".safetensors":
            raise CheckpointError(_of_file(path))
        if which != "last":
            raise ConfigError(f"which must be left out where run is an adapter file, got {which}")
        return path
    file = path / adapter_name(which)
    if file.exists():
        return file
    raise CheckpointError(_without_adapter(path, which) if _has_run(path) else no_run(path))


def adapter_name(which: str) -> str:
    """Return the name of the file with the adapter of an evaluation, last or best."""
    return f"adapter-{which}.safetensors"


def whole_record(path: Path) -> Record:
    """Return the record of a run, by its folder or its file; raise RecordError that says what else the path is."""
    if not (path.is_file() or (path / RECORD).exists()):
        raise RecordError(no_run(path))
    if path.is_file() and path.suffix != ".json":
        raise RecordError(_of_file(path))
    return read_record(path)


def record_beside(file: Path) -> Record | None:
    """Return the record of the run that an adapter file lies in; None where it lies alone."""
    return read_record(file.parent) if (file.parent / RECORD).is_file() else None


def require_unrouted(file: Path, rule: str, way_out: str) -> None:
    """Raise MethodError for an adapter whose run, by its record, chose experts or layers by the input."""
    record = None
    with contextlib.suppress(RecordError):  # a damaged record is no reason against the adapter
        record = record_beside(file)
    if record is not None and record.routing:
        raise MethodError(f"{rule}, got {record.settings['method']['name']} in {file.parent}; {way_out}")


def no_run(path: Path) -> str:
    """Return what a path is that is no run."""
    if not path.exists():
        beside = [str(each) for each in _runs_in(path.parent)]
        close = difflib.get_close_matches(str(path), beside, n=1, cutoff=0.75)
        near = f"did you mean {close[0]}?" if close else "name the folder of a run, such as outputs/NAME"
        return f"{path} does not exist; {near}"
    if not path.is_dir():
        return _of_file(path)
    if runs := list(_runs_in(path)):
        number = "one run" if len(runs) == 1 else f"{len(runs)} runs"
        return f"{path} is a folder of {number}, where a run itself is needed; name one, such as {runs[0]}"
    return f"{path} is no run: it has no {RECORD}; name the folder of a run, such as outputs/NAME"


def _of_file(path: Path) -> str:
    if path.name == RECORD:
        return f"{path} is the record of a run, where its folder is needed; name {path.parent}"
    return f"{path} is a file, and neither a run nor an adapter; name the folder of a run, such as outputs/NAME"


def _without_adapter(path: Path, which: str) -> str:
    """Return why a run has no adapter of an evaluation, and how it gets one."""
    if (path / adapter_name(OTHER[which])).exists():
        return f"{path} has no adapter of its {which} evaluation; choose which={OTHER[which]}, which is there"
    record = record_beside(path / RECORD)
    if record is not None and record.status != "finished":
        return f"{path} has no adapter yet: its run is {record.status}; the command that began it resumes it"
    keep = record.settings.get("keep", "none") if record is not None else "none"
    return f"{path} has no adapter: keep={keep} left none; train it again with keep=both resume=never"


def _has_run(path: Path) -> bool:
    return (path / RECORD).is_file() or any((path / adapter_name(which)).exists() for which in OTHER)


def _runs_in(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (each for each in sorted(folder.iterdir()) if _has_run(each))
