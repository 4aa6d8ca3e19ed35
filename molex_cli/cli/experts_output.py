"""The tables and heat maps of `molex experts`."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from rich.table import Table

MEASURES = {
    "norm": "mean |dW|",
    "distance": "mean |dW_a - dW_b|",
    "cosine": "mean cosine",
    "output_overlap": "overlap of outputs",
    "input_overlap": "overlap of inputs",
}
TRENDS = ("norm", "distance", "cosine")
USE = ("effective", "top1", "dead", "entropy", "logit")


def print_run(analysis: dict[str, Any], options: argparse.Namespace) -> None:
    """Print a run's table, a line for each layer or linear, and what is lost without parts of it."""
    from molex_cli.runtime.terminal import Terminal, show

    terminal = Terminal()
    terminal.print(f"{analysis['name']}  {analysis['run']}", style="bold", soft_wrap=True)
    show(_table(analysis, per_linear=bool(options.modules and analysis["linears"])))
    if "trend" in analysis:
        trends = ", ".join(f"{MEASURES[name]} {value:+.2f}" for name, value in analysis["trend"].items())
        terminal.print(f"Spearman's correlation with depth: {trends}", soft_wrap=True)
    if "ablation" in analysis:
        _print_losses(analysis["ablation"])
    terminal.print()


def _table(analysis: dict[str, Any], *, per_linear: bool) -> "Table":
    from rich.table import Table

    measures = list(MEASURES) if analysis["linears"] else []
    starts = {} if per_linear else analysis.get("start", {}).get("input_overlap", {})
    use = [*USE, *([] if measures else ["margin"])]
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", justify="right")
    if per_linear:
        table.add_column("linear", justify="left")
    for name in ("experts", *(MEASURES[name] for name in measures), *(["at the start"] if starts else []), *use):
        table.add_column(name, justify="right")
    for line in analysis["linears"] if per_linear else _layers(analysis):
        layer = str(line["layer"])
        routing = analysis["routing"].get(layer, {})
        used = routing.get("modules", {}).get(line["module"], {}) if per_linear else routing
        cells = [layer, *([line["module"]] if per_linear else []), str(line["experts"])]
        cells += [_number(line.get(name)) for name in measures]
        cells += [_number(starts.get(line["layer"]))] if starts else []
        cells += [_number(used.get(name)) for name in use]
        table.add_row(*cells)
    return table


def _layers(analysis: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a line for each layer that has experts or a choice of guests."""
    means = analysis["layers"]
    layers = sorted({*map(int, analysis["routing"]), *means["distance"]})
    count = analysis["experts_per_layer"] or []
    return [
        {
            "layer": layer,
            "experts": count[layer] if layer < len(count) else len(_usage(analysis["routing"].get(str(layer), {}))),
            **{name: means[name].get(layer) for name in MEASURES},
        }
        for layer in layers
    ]


def _usage(statistics: dict[str, Any]) -> list[float]:
    return [math.nan if share is None else share for share in statistics.get("usage", [])]


def _print_losses(ablation: dict[str, Any]) -> None:
    from rich.table import Table

    from molex_cli.runtime.terminal import show

    table = Table(box=None, pad_edge=False)
    for name in ("layer", "expert", ablation["metric"], "change", "95 % over examples", "predictions changed"):
        table.add_column(name, justify="right")
    table.add_row("", "whole", f"{ablation['score']:.4f}", "", "", "")
    for loss in ablation["without"]:
        is_known = math.isfinite(loss["low"])
        table.add_row(
            str(loss["layer"]),
            "all" if loss["expert"] is None else str(loss["expert"]),
            f"{loss['score']:.4f}",
            f"{loss['change']:+.4f}",
            f"[{loss['low']:+.4f}, {loss['high']:+.4f}]" if is_known else "unknown",
            f"{loss['predictions_changed']} of {loss['of']}",
        )
    show(table)


def print_together(analyses: Sequence[dict[str, Any]]) -> None:
    """Print a measure of all runs, layer by layer, side by side."""
    from rich.table import Table

    from molex_cli.runtime.terminal import show

    with_experts = [analysis for analysis in analyses if analysis["linears"]]
    for name in TRENDS if with_experts else ():
        table = Table(title=MEASURES[name], title_justify="left", box=None, pad_edge=False)
        table.add_column("layer", justify="right")
        for analysis in with_experts:
            table.add_column(analysis["name"], justify="right")
        for layer in sorted({layer for analysis in with_experts for layer in analysis["layers"][name]}):
            table.add_row(str(layer), *(_number(analysis["layers"][name].get(layer)) for analysis in with_experts))
        show(table)


def draw(analysis: dict[str, Any], folder: Path) -> None:
    """Write a heat map of similarity by layer and linear and one of the use of the experts."""
    from molex_cli.compare.heat_map import heat_map, usage_map
    from molex_cli.records import unwritable
    from molex_cli.statistics.expert_similarity import table

    drawn = {}
    if analysis["experts"]:
        for name in ("distance", "cosine"):
            rows, columns, values = table(analysis["experts"], name)
            title = f"{analysis['name']}: {MEASURES[name]}"
            drawn[name] = heat_map(title, rows, values.tolist(), columns="linear", names=columns)
    if analysis["routing"]:
        rows = [f"layer {layer}" for layer in analysis["routing"]]
        usage = [_usage(statistics) for statistics in analysis["routing"].values()]
        drawn["usage"] = usage_map(f"{analysis['name']}: use of the experts", rows, usage)
    for name, figure in drawn.items():
        for ending in ("png", "svg"):
            path = folder / f"{analysis['run']}-{name}.{ending}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                figure.savefig(path, dpi=150)
            except OSError as error:
                raise unwritable(str(path), error, "a plot must be a file") from None
            say(f"written: {path}")


def _number(value: "float | int | None") -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3g}"
