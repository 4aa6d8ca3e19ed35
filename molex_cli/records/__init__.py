"""The run record and its folder; no torch.

A run's folder holds record.json (`Record`), events.jsonl, predictions-last.jsonl and
predictions-best.jsonl, and adapter-last.safetensors and adapter-best.safetensors.
"""

from molex_cli.records.disk import disk_error, disk_errors_told, no_room, unwritable
from molex_cli.records.files import as_json, write_rows, write_text
from molex_cli.records.partial import file_part
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
from molex_cli.records.versions import command, environment, error_of

__all__ = [
    "HOW_ONLY",
    "NOT_IN_VARIANT",
    "NUMBER_FORMATS",
    "RECORD_VERSION",
    "Record",
    "as_json",
    "command",
    "correctness",
    "disk_error",
    "disk_errors_told",
    "environment",
    "error_of",
    "file_part",
    "flat",
    "identity_of",
    "lines_of",
    "no_room",
    "read_record",
    "read_rows",
    "unwritable",
    "variant_id",
    "write_record",
    "write_rows",
    "write_text",
]
