"""Scores of learning tasks in a sequence, from the matrix of the tasks' own scores; no metrics of one task."""

from collections.abc import Sequence


def overall_performance(matrix: Sequence[Sequence[float]]) -> float:
    """Return OP, the mean score of all tasks after the last; matrix[k][i] is that of task i after learning task k."""
    return sum(matrix[-1]) / len(matrix)


def performance_drop(matrix: Sequence[Sequence[float]]) -> float:
    """Return PD, the mean change of an earlier task's score by learning one more (MoLA, appendix C).

    Negative is forgetting where a high score is the better one, positive where a low one is; so with BWT.
    """
    changes = [matrix[k][i] - matrix[k - 1][i] for k in range(1, len(matrix)) for i in range(k)]
    return sum(changes) / len(changes)


def backward_transfer(matrix: Sequence[Sequence[float]]) -> float:
    """Return BWT, the mean change of the earlier tasks from when they were learned to the end."""
    changes = [matrix[-1][i] - matrix[i][i] for i in range(len(matrix) - 1)]
    return sum(changes) / len(changes)
