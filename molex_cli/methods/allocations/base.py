"""What an allocation spends, and what is known to spread it: shapes, which know the depth alone, and rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from molex_cli.errors import ConfigError, require_own_name
from molex_cli.methods.allocations.scores import counts_of_scores

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a shape or a rule must spend, and on what."""

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


class Needs(Enum):
    """What a rule reads: the model's weights, training rows too, or a finished run."""

    weights = "weights"
    rows = "rows"
    run = "run"


class Evidence(Protocol):
    """What a rule may look at; each is computed when it is first asked for.

    Lists have one entry for each layer, from the lowest to the highest; of a layer they have the linears that the
    method adapts. Nothing depends on the run's seed, on how rows are put into batches, or on padding.
    """

    @property
    def num_layers(self) -> int:
        """Return the number of the model's layers."""

    def weights(self) -> "list[list[Tensor]]":
        """Return the weights of each layer's linears: [out, in] each, float32."""

    def gradients(self) -> "list[list[Tensor]]":
        """Return the gradients of the mean loss of the rows, as `weights`."""

    def squared_gradients(self) -> "list[list[Tensor]]":
        """Return the means over rows of the squared gradients of each row's loss, as `weights`."""

    def similarities(self) -> list[float]:
        """Return the mean cosine between what goes into a layer and what comes out, over all tokens but padding."""

    def probe_scores(self) -> list[float]:
        """Return how well a linear probe reads the task off what goes into the first layer, then off each output."""

    def losses_without(self) -> tuple[float, list[float]]:
        """Return the loss of a finished run on the rows, and its losses without what it adds to each layer."""


Scores = Sequence[float]


@dataclass(frozen=True)
class Rule:
    """A rule that reads from weights, rows or a run which layers deserve experts."""

    scores: Callable[[Evidence], Scores]
    """Returns a number from 0 for each layer: the share that it deserves."""
    needs: Needs
    counts: Callable[[Scores, Budget], tuple[int, ...]] = counts_of_scores
    """Turns scores into the count of each layer."""

    @property
    def reads_rows(self) -> bool:
        """Return whether training rows decide."""
        return self.needs is not Needs.weights


SHAPES: dict[str, Shape] = {}
RULES: dict[str, Rule] = {}


def register(name: str, how: Shape | Rule) -> None:
    """Make a shape or a rule choosable: `method.allocation.shape=NAME` or `method.allocation.rule=NAME`."""
    require_own_name("an allocation", name, {**SHAPES, **RULES})
    if isinstance(how, Shape):
        SHAPES[name] = how
    else:
        RULES[name] = how
