"""What decides the numbers of a run: two tries of one name are the same run only if they were made from the same."""

from collections.abc import Mapping
from typing import Any

from molex_cli.records.parts import Base
from molex_cli.records.record import NOT_IN_VARIANT, NUMBER_FORMATS, Record, flat
from molex_cli.records.renamed import without_added

BASE = "files of the base model"
ROWS, LABELS, TEXT = "rows of ", "labels of ", "text of "


def made_from(
    settings: Mapping[str, Any], data: Mapping[str, Any], base: Base, texts: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the settings, number formats, rows, labels and base model of a run, by name; what is unknown is left out.

    `data` and `base` are as in a record; `texts` are digests of the metrics that are none of molex's own.
    """
    defining = {key: value for key, value in without_added(settings).items() if key not in NOT_IN_VARIANT}
    hardware = settings.get("hardware") or {}
    # Where the rows of a batch choose together, processes that share a batch choose otherwise than one.
    together = ("processes",) if (settings.get("method") or {}).get("level") == "batch" else ()
    known = {f"hardware.{name}": hardware[name] for name in (*NUMBER_FORMATS, *together) if name in hardware}
    for split, about in data.items():
        known |= {f"{ROWS}{split}": str(about["fingerprint"])[:8]} if "fingerprint" in about else {}
        known |= {f"{LABELS}{split}": ", ".join(about["labels"])} if about.get("labels") else {}
    if base.get("fingerprint"):
        known[BASE] = base["fingerprint"][:8]
    known |= {f"{TEXT}{name}": digest[:8] for name, digest in (texts or {}).items() if digest}
    return {**flat(defining), **known}


def is_data(name: str) -> bool:
    """Return whether a name is one of rows, labels, base model or text: records of before may not have it."""
    return name == BASE or name.startswith((ROWS, LABELS, TEXT))


def of_record(record: Record) -> dict[str, Any]:
    """Return what a recorded run was made from."""
    texts = {name: about["digest"] for name, about in record.evaluation.get("metrics", {}).items()}
    return made_from(record.settings, record.data, record.base, texts)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a text for each thing that two runs were made from and that is known of both and not the same."""
    return [f"{name}: {before[name]} -> {now[name]}" for name in before if name in now and before[name] != now[name]]
