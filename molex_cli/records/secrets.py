"""Environment variables that look secret: their values are shown to nobody and written into no file."""

import io
import os
import re
from collections.abc import Sequence
from functools import lru_cache

NAME = re.compile("(^|_)(KEY|TOKEN)S?(_|$)|APIKEY|SECRET|PASSW|PASSPHRASE|CREDENTIAL", re.IGNORECASE)
VALUE = re.compile(r"(?![/~.]).{16,}|(?=.*\d)(?=.*[A-Za-z])(?![/~.]).{8,}", re.DOTALL)
"""No word, number or path, such as variables called TOKEN_DIR or KEYBOARD have: these stay as they are."""
IN_ADDRESS = re.compile(r"\w+://[^/@\s]*?:([^/@\s]+)@")
"""The password in the address of a server or a proxy."""
HIDDEN = "***"


def looks_secret(name: str) -> bool:
    """Return whether a variable of this name may hold what nobody else must see."""
    return NAME.search(name) is not None


def shown(name: str) -> str:
    """Return the value of a variable as a message may show it."""
    return HIDDEN if looks_secret(name) else repr(os.environ[name])


def secrets() -> list[str]:
    """Return the values of all variables that look secret, the longest first: one may begin with another."""
    found = [value for name, value in os.environ.items() if _is_secret(name, value)]
    addresses = [value for name, value in os.environ.items() if "://" in value and "@" in value]
    found += [password for value in addresses for password in IN_ADDRESS.findall(value) if VALUE.fullmatch(password)]
    return sorted(found, key=len, reverse=True)


@lru_cache(maxsize=1000)
def _is_secret(name: str, value: str) -> bool:
    return looks_secret(name) and VALUE.fullmatch(value) is not None


def hidden(text: str, values: Sequence[str] | None = None) -> str:
    """Return a text without the values of variables that look secret."""
    for value in secrets() if values is None else values:
        text = text.replace(value, HIDDEN)
    return text


class WithoutSecrets(io.TextIOWrapper):
    """A file into which no secret is written."""

    def write(self, text: str) -> int:
        """Write a text without secrets."""
        return super().write(hidden(text))
