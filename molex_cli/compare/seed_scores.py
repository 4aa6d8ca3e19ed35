"""The scores of every seed, with each arm's mean and its interval: a chart for a paper."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from molex_cli.compare import plots
from molex_cli.compare.forest import GAP, LEADING, LETTER, SHARE, wrapped
from molex_cli.compare.layout import Report
from molex_cli.compare.paper_panels import best_rows
from molex_cli.compare.table import Cell, metric_name
from molex_cli.errors import ConfigError
from molex_cli.statistics.intervals import seed_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 48  # rows: more would not fit a page
SPREAD = 0.5  # of a row's height, for seeds of equal scores
SEED: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": "#444444", "linestyle": ""}
MEAN: dict[str, Any] = {"marker": "D", "color": plots.COLOURS[0]}


def seed_scores(report: Report, width: float, size: float) -> "Figure":
    """Return a panel for each column with a row for each arm, of a width in inches and text of a size in points."""
    table, letters = report.table, int(72 * width / LETTER / size)
    if len(table.cols) > MOST:
        raise ConfigError(f"--figure scores must have at most {MOST} columns to draw, got {len(table.cols)}")
    panels = []
    for col in table.cols:
        column = table.column(col)
        kept = best_rows(column)[: max(1, MOST // len(table.cols))]
        rows = [(wrapped(table.name(row), int(SHARE * letters)), column[row]) for row in column if row in kept]
        left_out = f"the {len(kept)} best of {len(column)} arms" if len(kept) < len(column) else ""
        panels.append((wrapped(col, letters), metric_name(table, col), rows, left_out))
    heights = [sum(map(_height, (title, *(name for name, _ in rows)))) for title, _, rows, _ in panels]
    figure = plots.empty(width, (sum(heights) + 5 * len(panels) + 3) * size / 72)
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, (title, unit, rows, left_out) in zip(grid[:, 0], panels, strict=True):
        better = "higher" if rows[0][1].metric.higher_is_better else "lower"
        axes.set_title(title, fontsize=size, fontweight="bold", loc="left", x=0)
        _rows(axes, rows, size)
        told = [f"{unit} ({better} is better)", left_out]
        axes.set_xlabel("\n".join(wrapped(each, int(letters * (1 - SHARE))) for each in told if each), fontsize=size)
    _legend(figure, size, any(len(cell.by_seed) > 1 for cell in table.cells.values()))
    return figure


def _height(label: str) -> float:
    return (label.count("\n") + 1) * LEADING + GAP


def _rows(axes: Any, rows: Sequence[tuple[str, Cell]], size: float) -> None:
    from matplotlib.ticker import MaxNLocator

    top, names = 0.0, dict[float, str]()
    for name, cell in rows:
        y = top - _height(name) / 2
        _row(axes, cell, y, size)
        names[y] = name
        top -= _height(name)
    axes.set(ylim=(top, 0))
    axes.set_yticks(list(names), labels=list(names.values()))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=size, length=2)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    axes.grid(axis="x", color=plots.GRID, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["left", "top", "right"]].set_visible(False)


def _row(axes: Any, cell: Cell, y: float, size: float) -> None:
    """Draw the seeds of an arm above its mean and interval."""
    values = [value * cell.metric.scale for value in cell.by_seed.values()]
    axes.plot(values, [y + SPREAD / 2] * len(values), markersize=size / 2.2, markeredgewidth=0.6, **SEED)
    if len(values) < 2:
        return
    interval = seed_interval(values)
    low, high = _within(interval.low, cell), _within(interval.high, cell)
    axes.plot([low, high], [y - SPREAD / 2] * 2, color=MEAN["color"], linewidth=size / 6, solid_capstyle="butt")
    axes.plot([interval.estimate], [y - SPREAD / 2], markersize=size / 2.2, **MEAN)


def _within(end: float, cell: Cell) -> float:
    """Return an end of an interval, no further than scores go."""
    return min(max(end, cell.metric.low * cell.metric.scale), cell.metric.high * cell.metric.scale)


def _legend(figure: "Figure", size: float, has_means: bool) -> None:
    from matplotlib.lines import Line2D

    seed = Line2D([], [], label="a seed", markersize=size / 2.2, markeredgewidth=0.6, **SEED)
    mean = Line2D([], [], label="mean, 95 % interval over seeds", linewidth=size / 6, markersize=size / 2.2, **MEAN)
    figure.legend(
        handles=[seed, *([mean] if has_means else [])],
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=size,
    )
