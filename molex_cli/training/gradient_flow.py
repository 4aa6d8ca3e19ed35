"""The check that everything a method trains receives a gradient."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from molex_cli.methods.base import Adapted

FLOW_STEPS = 20  # steps within which every trainable tensor should have received a gradient


@dataclass
class GradientFlow:
    """Watches which trainable tensors have received a gradient; those that never do are named."""

    waiting: dict[str, Tensor]
    steps: int = 0
    excused: Callable[[], dict[str, str]] = dict

    @classmethod
    def of(cls, adapted: Adapted) -> "GradientFlow":
        """Return a watch over everything the method trains."""
        return cls(dict(adapted.trainable()), excused=adapted.unused)

    def look(self) -> dict[str, Tensor]:
        """Return of the gradients of this step that are still waited for whether they are any, still on the device."""
        self.steps += 1
        if self.steps > FLOW_STEPS:
            return {}
        return {name: p.grad.any() for name, p in self.waiting.items() if p.grad is not None}

    def note(self, seen: Iterable[str]) -> None:
        """Wait no longer for these tensors."""
        for name in seen:
            del self.waiting[name]

    def observe(self) -> None:
        """Look at the gradients of this step, and wait for what is seen."""
        self.note([name for name, has_gradient in self.look().items() if has_gradient])

    def report(self) -> dict[str, Any]:
        """Return the check for the record: passed, and the tensors without a gradient."""
        excused = self.excused()
        dead = sorted(name for name in self.waiting if name not in excused)
        # Until B has moved from zero, the gradient of A and of the router is zero: one step shows nothing.
        judged = self.steps >= 2
        reasons = {name: why for name, why in excused.items() if name in self.waiting}
        return {"passed": not dead if judged else None, "without_gradient": dead, "known": reasons, "steps": self.steps}
