"""The run record and its folder; no torch.

A run's folder holds record.json (`Record`), events.jsonl, predictions-last.jsonl and
predictions-best.jsonl, and adapter-last.safetensors and adapter-best.safetensors.
"""

from molex_cli.records.files import (
    as_json,
    file_part,
    no_room,
    told_without_room,
    unwritable,
    write_rows,
    write_text,
)
from molex_cli.records.reading import lines_of, read_rows
from molex_cli.records.record import (
    HOW_ONLY,
    NOT_IN_VARIANT,
    NUMBER_FORMATS,
    RECORD_VERSION,
    Record,
    correctness,
    flat,
    identity_of,
    read_record,
    variant_id,
    write_record,
)
from molex_cli.records.versions import environment, error_of

__all__ = [
    "HOW_ONLY",
    "NOT_IN_VARIANT",
    "NUMBER_FORMATS",
    "RECORD_VERSION",
    "Record",
    "as_json",
    "correctness",
    "environment",
    "error_of",
    "file_part",
    "flat",
    "identity_of",
    "lines_of",
    "no_room",
    "read_record",
    "read_rows",
    "told_without_room",
    "unwritable",
    "variant_id",
    "write_record",
    "write_rows",
    "write_text",
]
