"""Charts as inline SVG: lines with bands, points with a front, heat maps; colours come from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 12, 44
DASHES = ("", "6 3", "2 3", "8 3 2 3")
SERIES = 8  # colours in the style sheet; the next series has another dash


@dataclass(frozen=True)
class Line:
    """One arm's curve: x, mean, and a band around it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Point:
    """One arm: a place with an interval along y."""

    name: str
    x: float
    y: float
    low: float
    high: float


def lines(title: str, x_name: str, y_name: str, series: Sequence[Line]) -> str:
    """Return curves with bands."""
    xs = [x for each in series for x in each.x]
    ys = [y for each in series for bound in (each.low, each.high) for y in bound]
    axes = _Axes.around(xs, ys)
    drawn = [axes.drawn(x_name, y_name)]
    for number, each in enumerate(series):
        up = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in zip(each.x, each.high, strict=True))
        down = " ".join(
            f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in reversed(list(zip(each.x, each.low, strict=True)))
        )
        points = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in zip(each.x, each.y, strict=True))
        look = f'class="s{number % SERIES}" stroke-dasharray="{DASHES[number // SERIES % len(DASHES)]}"'
        drawn.append(f'<polygon class="band s{number % SERIES}" points="{up} {down}"/>')
        drawn.append(f'<polyline {look} points="{points}"><title>{escape(each.name)}</title></polyline>')
        dots = [
            f'<circle cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="2.5"/>' for x, y in zip(each.x, each.y, strict=True)
        ]
        drawn.append(f'<g class="s{number % SERIES}">{"".join(dots)}<title>{escape(each.name)}</title></g>')
    return _figure(title, drawn, [each.name for each in series])


def points(title: str, x_name: str, y_name: str, series: Sequence[Point], *, logarithmic: bool = False) -> str:
    """Return a scatter of arms with the front of those that no other beats in both."""
    shown = [Point(p.name, math.log10(p.x), p.y, p.low, p.high) if logarithmic else p for p in series]
    axes = _Axes.around([p.x for p in shown], [y for p in shown for y in (p.low, p.high)])
    drawn = [axes.drawn(x_name, y_name, logarithmic=logarithmic)]
    front = sorted(
        (p for p in shown if not any(o.x <= p.x and o.y >= p.y and (o.x, o.y) != (p.x, p.y) for o in shown)),
        key=lambda p: p.x,
    )
    path = " ".join(f"{axes.x(p.x):.1f},{axes.y(p.y):.1f}" for p in front)
    drawn.append(f'<polyline class="front" points="{path}"><title>no arm is better and cheaper</title></polyline>')
    for number, p in enumerate(shown):
        x, y = axes.x(p.x), axes.y(p.y)
        drawn.append(
            f'<g class="s{number % SERIES}"><line x1="{x:.1f}" x2="{x:.1f}" y1="{axes.y(p.low):.1f}" '
            f'y2="{axes.y(p.high):.1f}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="5"/><title>{escape(p.name)}</title></g>'
        )
    return _figure(title, drawn, [p.name for p in shown])


def heat_map(
    title: str, rows: Sequence[str], values: Sequence[Sequence[float]], columns: Sequence[str] | None = None
) -> str:
    """Return rows of cells, each as dark as its value's share of the largest; NaN leaves one out.

    The columns are experts unless they are named.
    """
    width = max((len(row) for row in values), default=0)
    named = columns or [f"expert {j}" for j in range(width)]
    top = max((value for row in values for value in row if not math.isnan(value)), default=0.0) or 1.0
    size, label = 26, 70
    drawn = []
    for i, (name, row) in enumerate(zip(rows, values, strict=True)):
        drawn.append(f'<text x="{label - 6}" y="{i * size + 18}" text-anchor="end">{escape(name)}</text>')
        for j, value in enumerate(row):
            if math.isnan(value):
                continue
            place = f'x="{label + j * size}" y="{i * size}" width="{size - 2}" height="{size - 2}"'
            said = f"{escape(name)}, {escape(named[j])}: {value:.3f}"
            drawn.append(f'<rect class="heat" {place} fill-opacity="{value / top:.3f}"><title>{said}</title></rect>')
    height = max(1, len(rows)) * size
    wide, name = label + width * size, escape(title)
    return (
        f'<figure><figcaption>{name}</figcaption><svg viewBox="0 0 {wide} {height}" role="img" '
        f'style="max-width:{wide}px" aria-label="{name}">{"".join(drawn)}</svg></figure>'
    )


@dataclass(frozen=True)
class _Axes:
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    @classmethod
    def around(cls, xs: Sequence[float], ys: Sequence[float]) -> "_Axes":
        def padded(values: Sequence[float]) -> tuple[float, float]:
            low, high = min(values, default=0.0), max(values, default=1.0)
            pad = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
            return low - pad, high + pad

        return cls(*padded(xs), *padded(ys))

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM)

    def drawn(self, x_name: str, y_name: str, *, logarithmic: bool = False) -> str:
        """Return grid, ticks and names of both axes."""
        parts = []
        for tick in _ticks(self.y_low, self.y_high):
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for tick in _ticks(self.x_low, self.x_high):
            text = _short(10**tick) if logarithmic else _short(tick)
            parts.append(f'<text x="{self.x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_name)}</text>')
        parts.append(f'<text x="{LEFT}" y="{TOP}" class="name">{escape(y_name)}</text>')
        return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 6)
    first = math.ceil(low / step)
    return [round(i * step, 10) for i in range(first, math.floor(high / step) + 1)]


def _short(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _figure(title: str, drawn: Sequence[str], names: Sequence[str]) -> str:
    keys = "".join(f'<li class="s{i % SERIES}"><span></span>{escape(name)}</li>' for i, name in enumerate(names))
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(drawn)}</svg><ul class="key">{keys}</ul></figure>'
    )
