"""Sizes of memory as people write them."""

import re

from molex_cli.errors import ConfigError

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BINARY = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parsed(text: str, name: str) -> int:
    """Return the bytes of 24GB (10^9 each) or 24GiB (2^30 each); raise ConfigError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", text.strip())
    unit = (UNITS | BINARY).get(found[2].upper()) if found else None
    if found is None or unit is None or not float(found[1]):
        raise ConfigError(f"{name} must be a size above 0 such as 24GB or 80GiB, got {text}")
    return int(float(found[1]) * unit)


def shown(count: float) -> str:
    """Return bytes in the unit that leaves three figures or so: 12.3 GB."""
    unit = next((unit for unit in ("TB", "GB", "MB", "KB") if count >= UNITS[unit]), "B")
    value = count / UNITS[unit]
    return f"{value:,.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.3g} {unit}"
