"""Where things are unless settings say otherwise."""

import os

from molex_cli.records.stored_text import as_stored
from molex_cli.runtime.paths import expanded


def default_data_dir() -> str | None:
    """Return the folder named by MOLEX_DATA, if any."""
    folder = os.environ.get("MOLEX_DATA")
    return str(as_stored(str(expanded(folder)))) if folder else None
