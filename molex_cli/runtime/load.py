"""How busy the machine is with what others do on it."""

import os
from dataclasses import dataclass, field


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> float | None:
    """Return the processes that ran or waited for a core, on average over the last minute; None where none tells."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


@dataclass(kw_only=True)
class Load:
    """The load average around a measurement, which itself keeps all cores busy."""

    cores: int = field(default_factory=cores)
    before: float | None = field(default_factory=load_average)
    after: float | None = None

    def ended(self) -> "Load":
        """Return the load with that of now as the one afterwards."""
        self.after = load_average()
        return self

    def warning(self, *, in_turn: bool = True) -> str | None:
        """Return a line on a machine that was busy, before or with more than this measurement; else None.

        `in_turn` says whether the arms took turns step by step, so that it hit all of them alike.
        """
        before, after = self.before or 0.0, self.after or 0.0
        if before <= self.cores / 2 and after <= 1.5 * self.cores:
            return None
        counts = "the ratios count, for the arms took turns, and the times do not"
        return (
            f"busy: load average {before:.1f} before and {after:.1f} after on {self.cores} cores; "
            f"{counts if in_turn else 'neither times nor ratios count'}"
        )
