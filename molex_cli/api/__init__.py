"""What `molex_cli` offers to Python: a file for each thing that can be asked; `molex_cli/__init__.py` names it all.

It goes through the same checks as the commands; a mistake is an exception of `molex_cli.errors`, with the same line.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from molex_cli.errors import ConfigError
from molex_cli.records.disk import disk_errors_told
from molex_cli.runtime.paths import know_user


@contextmanager
def asked() -> Iterator[None]:
    """Be ready as a command is: for a user without a home, for a disk that refuses."""
    know_user()
    with disk_errors_told():
        yield


def require_texts(settings: Sequence[object]) -> None:
    """Raise ConfigError for a setting that is no text, such as a list of them."""
    if strange := [each for each in settings if not isinstance(each, str)]:
        raise ConfigError(f"settings must be texts such as 'seed=1', got {strange[0]!r}")
