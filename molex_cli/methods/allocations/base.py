"""What an allocation spends, and the shapes that are known."""

from collections.abc import Callable
from dataclasses import dataclass

from molex_cli.errors import ConfigError, require_own_name


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a shape must spend, and on what."""

    total: int
    """Experts over all layers."""
    num_layers: int
    low: int
    """Fewest experts of a layer that has a share."""
    high: int
    """Most experts of any layer."""
    seed: int = 0
    key: str = "method.allocation"
    """The setting that messages name."""

    def require_possible(self, with_share: int) -> None:
        """Raise ConfigError where no counts within the bounds have this total on so many layers that have a share."""
        least, most = max(1, self.low * with_share), self.high * with_share
        if not least <= self.total <= most:
            near = min(max(self.total, least), most)
            rule = f"between {least} and {most} experts ({self.low} to {self.high} in each of {with_share} layers)"
            raise ConfigError(
                f"{self.key} must spend {rule}, got a total of {self.total}; the nearest possible is total={near}"
            )


@dataclass(frozen=True)
class Shape:
    """A named shape: how a budget is spread over the layers, from the lowest to the highest."""

    spread: Callable[[Budget], tuple[int, ...]]
    """Returns the count of each layer: exactly the total, within the bounds; raises ConfigError where none has it."""
    reads_seed: bool = False


SHAPES: dict[str, Shape] = {}


def register(name: str, shape: Shape) -> None:
    """Make a shape choosable: `method.allocation.shape=NAME`."""
    require_own_name("a shape", name, SHAPES)
    SHAPES[name] = shape
