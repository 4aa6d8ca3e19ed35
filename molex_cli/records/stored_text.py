"""Settings that a file holds, as OmegaConf takes them: text that looks like an interpolation stays text."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

RESOLVER = "molex_text"


def as_stored(value: Any) -> Any:
    """Return settings in which OmegaConf finds each text just as it is, `${...}` and backslashes too."""
    if isinstance(value, Mapping):
        return {name: as_stored(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_stored(item) for item in value]
    if isinstance(value, str) and "${" in value:
        # A letter first, or digits alone would be a number.
        return f"${{{RESOLVER}:x{value.encode('utf-8', 'surrogatepass').hex()}}}"
    return value


def _text(letters: str) -> str:
    return bytes.fromhex(letters[1:]).decode("utf-8", "surrogatepass")


OmegaConf.register_new_resolver(RESOLVER, _text, replace=True)
