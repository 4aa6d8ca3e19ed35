"""Where things are unless settings say otherwise."""

import os


def default_data_dir() -> str | None:
    """Return the folder named by MOLEX_DATA, if any."""
    return os.environ.get("MOLEX_DATA") or None
