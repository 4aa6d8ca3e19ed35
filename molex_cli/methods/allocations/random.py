"""Random: any allocation of the total within the bounds, the control of every shape."""

import random
from itertools import accumulate

from molex_cli.methods.allocations.base import Budget, Shape, register


def spread(budget: Budget) -> tuple[int, ...]:
    """Return one of all allocations of the total within the bounds, each equally likely."""
    budget.require_possible(budget.num_layers)
    ways = [[1] + [0] * budget.total]  # ways[n][t]: to spend t on n layers
    for _ in range(budget.num_layers):
        below = [0, *accumulate(ways[-1])]  # below[t]: to spend less than t
        ways.append(
            [below[max(0, t - budget.low + 1)] - below[max(0, t - budget.high)] for t in range(budget.total + 1)]
        )
    stream = random.Random(f"allocation {budget.seed}")
    counts: list[int] = []
    for left in range(budget.num_layers - 1, -1, -1):
        rest = budget.total - sum(counts)
        choices = range(budget.low, min(budget.high, rest) + 1)
        counts += stream.choices(choices, [ways[left][rest - count] for count in choices])
    return tuple(counts)


register("random", Shape(spread, reads_seed=True))
