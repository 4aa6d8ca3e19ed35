"""The folder that is sent: adapter, record, card, and what else is asked for."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from molex_cli.checkpoints import adapter, peft_export
from molex_cli.checkpoints.hub import card
from molex_cli.checkpoints.hub.metadata import Content
from molex_cli.checkpoints.hub.outgoing import public_record, public_settings
from molex_cli.checkpoints.hub.scores import scored
from molex_cli.compare.loading import Run
from molex_cli.errors import ConfigError, RecordError
from molex_cli.records import Record, as_json, read_record, write_record, write_text
from molex_cli.records.reading import read_json
from molex_cli.records.run_folder import adapter_of, require_unrouted
from molex_cli.records.secrets import secrets

CARD = "README.md"
PUSHABLE = ("finished", "imported")
NO_ROUTER = "--peft must be given with a run of LoRA, one expert and no router in each linear"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What of a run is sent, and where to."""

    repo: str
    revision: str | None = None
    which: str = "last"
    license: str | None = None
    predictions: bool = False
    peft: bool = False
    message: str = ""
    """Message of the commit."""
    degenerate: bool = False
    """Send it although its record says that its scores mean nothing."""


def require_pushable(run: Path, wanted: Wanted) -> Record:
    """Return a run's record; raise where nothing of it should be sent, before anything is written."""
    if run.is_file():
        raise RecordError(f"molex push must be given the folder of a run, got {run}; name {run.parent}")
    file = adapter_of(run, wanted.which)
    record = read_record(run)
    if record.status not in PUSHABLE:
        raise RecordError(
            f"{run} must be a finished run, got one that is {record.status}; the command that began it resumes it"
        )
    if record.degenerate and not wanted.degenerate:
        raise RecordError(
            f"{run} must be a run whose scores mean something, got a degenerate one: {'; '.join(record.degenerate)}; "
            "--degenerate sends it with that on its card"
        )
    if wanted.peft:
        require_unrouted(file, NO_ROUTER, "leave out --peft: molex opens the run itself")
    if wanted.predictions and not (run / _predictions(wanted.which)).is_file():
        raise RecordError(f"--predictions must find {_predictions(wanted.which)} in {run}, got none; leave it out")
    return record


def write(run: Path, wanted: Wanted, folder: Path, tokens: Sequence[str] = ()) -> None:
    """Write what is sent into a folder; raise ConfigError if any of these tokens or another secret is in it."""
    record = require_pushable(run, wanted)
    file = adapter_of(run, wanted.which)
    saved = adapter.rewrite(file, folder / file.name, public_settings)
    public = public_record(record)
    write_record(folder, public)
    if wanted.predictions:
        shutil.copyfile(run / _predictions(wanted.which), folder / _predictions(wanted.which))
    model = saved.experiment.model
    if wanted.peft:
        _write_peft(run, wanted.which, folder, model.hub or model.folder)
    content = Content(
        repo=wanted.repo,
        revision=wanted.revision,
        which=wanted.which,
        record=public,
        experiment=saved.experiment,
        labels=saved.labels,
        scores=scored(Run(run, record), wanted.which),
        license=wanted.license,
        for_peft=wanted.peft,
    )
    write_text(folder / CARD, card.text(content))
    sent = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    _require_no_secret({"--message": wanted.message.encode(), **sent}, [*secrets(), *tokens])


def _write_peft(run: Path, which: str, folder: Path, base: str | None) -> None:
    """Write PEFT's two files, in which the base model has the name that it has for others."""
    inner = folder / "peft"
    peft_export.export(run, which, inner)
    config = read_json(inner / peft_export.CONFIG, "PEFT's config", dict)
    write_text(inner / peft_export.CONFIG, as_json(config | {"base_model_name_or_path": base}, indent=2) + "\n")
    for file in (peft_export.CONFIG, peft_export.FILE):
        (inner / file).rename(folder / file)
    inner.rmdir()


def _require_no_secret(sent: Mapping[str, bytes], values: Sequence[str]) -> None:
    for name, content in sent.items():
        if any(value.encode() in content for value in values):
            raise ConfigError(
                f"{name} must hold no secret, got the value of a token or of a variable whose name looks secret; "
                "leave it out, or train the run again without it in a setting"
            )


def _predictions(which: str) -> str:
    return f"predictions-{which}.jsonl"
