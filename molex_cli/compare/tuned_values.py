"""What all formats show of tuning: the chosen values, the trials that they took, and where a better one may lie."""

from collections.abc import Callable
from functools import partial
from typing import Any

from molex_cli.compare.arms import shown
from molex_cli.compare.table import Comparison
from molex_cli.compare.tuning import Tuned


def columns(table: Comparison) -> dict[str, Callable[[str], str]]:
    """Return the columns: what each shows of a row, for each column of scores."""

    def of_each(of: Callable[[Tuned], Any], row: str) -> str:
        cells = [table.cells.get((row, col)) for col in table.cols]
        return ", ".join(str(of(cell.tuned)) if cell and cell.tuned else "–" for cell in cells)

    if not table.tuned:
        return {}
    values = {key: partial(of_each, partial(_value, key)) for key in table.tuned}
    return {**values, "trials": partial(of_each, lambda tuned: tuned.trials)}


def lines(table: Comparison) -> list[str]:
    """Return how the values were chosen, and what speaks against them."""
    cells = table.cells.items()
    tuned = {f"{table.name(row)} in {col}": cell.tuned for (row, col), cell in cells if cell.tuned}
    if not tuned:
        return []
    seeds = ", ".join(map(str, next(iter(tuned.values())).seeds))
    found = [
        f"tuned: {', '.join(table.tuned)}, to the best mean score on the rows that train.selection sets apart, over "
        f"seeds {seeds}, which the table leaves out; trials: runs that it took"
    ]
    for name, each in tuned.items():
        found += [f"{name}: {_edge(each, key)}; a better one may lie beyond" for key in each.edges]
        found += [f"{each.diverged} of the {each.trials} trials of {name} diverged"] if each.diverged else []
        found += [f"runs of {name} at other values, which count for nothing: {each.unused}"] if each.unused else []
    return found


def facts(tuned: Tuned | None) -> dict[str, Any]:
    """Return what a line of numbers has of an arm's tuning."""
    if tuned is None:
        return {}
    values = ", ".join(f"{key}={value}" for key, value in tuned.values.items())
    return {"tuned": values, "trials": tuned.trials, "at_the_edge": ", ".join(tuned.edges)}


def as_data(tuned: Tuned) -> dict[str, Any]:
    """Return all of it as JSON can hold it."""
    scores = [{"values": list(values), "score": score} for values, score in tuned.scores.items()]
    return {**vars(tuned), "scores": scores}


def _value(key: str, tuned: Tuned) -> Any:
    return shown(tuned.values[key])


def _edge(tuned: Tuned, key: str) -> str:
    value, tried = tuned.values[key], tuned.grid[key]
    end = "lowest" if value == tried[0] else "highest"
    return f"{key}={shown(value)} is the {end} of {', '.join(map(shown, tried))}"
