"""Files put into a package for the time of a test, as someone does who adds a metric or a format."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType


@contextmanager
def added(package: ModuleType, name: str, text: str, folder: Path) -> Iterator[ModuleType]:
    """Let a package have one more file, `name`.py, that really lies in `folder`; give its module."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    package.__path__.append(str(folder))
    try:
        yield import_module(f"{package.__name__}.{name}")
    finally:
        package.__path__.remove(str(folder))
        sys.modules.pop(f"{package.__name__}.{name}", None)
        vars(package).pop(name, None)
