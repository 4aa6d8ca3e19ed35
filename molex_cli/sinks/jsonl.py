"""Every event as one line of events.jsonl."""

import json
import math
from pathlib import Path

from molex_cli.events import Event, Step


class Jsonl:
    """Appends events to a file, each at once."""

    def __init__(self, path: Path, every: int = 1) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._every = every

    def write(self, event: Event) -> None:
        """Append the event; of the steps only every so many."""
        if isinstance(event, Step) and event.step % self._every:
            return
        content = {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in event.as_dict().items()}
        self._file.write(json.dumps(content, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
