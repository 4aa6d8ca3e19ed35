"""`molex experts`: how alike the experts of each layer are, how they are used, and what is lost without them."""

import argparse
import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

from molex_cli.cli.parser import Parser
from molex_cli.errors import ConfigError, MolexError

SUMMARY = "how alike the experts of each layer are, how they are used, what is lost without them"
MEASURES = {
    "norm": "mean |dW|",
    "distance": "mean |dW_a - dW_b|",
    "cosine": "mean cosine",
    "output_overlap": "overlap of outputs",
    "input_overlap": "overlap of inputs",
}
TRENDS = ("norm", "distance", "cosine")
USE = ("effective", "top1", "dead", "entropy", "logit")


def main(argv: list[str]) -> int:
    """Analyse the experts of some runs."""
    options = _parser().parse(argv)
    if options.max_rows is not None and options.max_rows < 1:
        raise ConfigError(f"--max-rows must be at least 1, got {options.max_rows}")
    found = _found(options)
    if options.plots:
        for each in found:
            _draw(each, options.plots)
    if options.json:
        from molex_cli.records import as_json

        print(as_json([{key: value for key, value in each.items() if key != "experts"} for each in found], indent=2))
        return 0
    for each in found:
        _print_run(each, options)
    if len(found) > 1:
        _print_together(found)
    return 0


def _parser() -> Parser:
    parser = Parser("experts", __doc__)
    parser.add_argument("runs", nargs="+", help="folders of runs")
    parser.add_argument("--which", choices=("last", "best"), default="last", help="which adapter of a run")
    parser.add_argument("--modules", action="store_true", help="a line for each linear instead of each layer")
    parser.add_argument("--start", action="store_true", help="also the overlap of inputs before the first step")
    parser.add_argument("--ablate", choices=("layers", "experts"), help="score each run without each of them")
    parser.add_argument("--data-dir", help="folder with the official files (default: MOLEX_DATA)")
    parser.add_argument("--max-rows", type=int, help="score on so many rows only")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write heat maps there, as PNG and SVG")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_renamed("--figures", "--plots")
    parser.add_renamed("--knock-out", "--ablate")
    return parser


def _found(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what is known of each run; of several, those that cannot be analysed are left out with a line."""
    found = []
    for path in options.runs:
        try:
            found.append(_analysed(Path(path), options))
        except MolexError as error:
            if len(options.runs) == 1:
                raise
            print(f"left out: {error}", file=sys.stderr)
    if not found:
        raise ConfigError(f"runs must have experts, got none in {', '.join(options.runs)}")
    return found


def _analysed(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return all that is known of a run's experts."""
    from molex_cli.methods.base import low_rank_scale
    from molex_cli.records import read_record
    from molex_cli.statistics import expert_similarity

    record = read_record(folder)
    # Routers without experts choose guests, and an ablation also works for LoRA's only expert.
    has_none = record.experts_per_layer is None and (record.routing or options.ablate)
    file = folder / f"adapter-{options.which}.safetensors"
    experts = [] if has_none else expert_similarity.of_run(file, low_rank_scale)
    routing, scores = record.routing, record.scores
    if options.which == "best" and "best" in scores and scores["best"]["step"] != scores["last"]["step"]:
        print(
            f"{folder.name}: the record has the routing of the last evaluation only: no statistics of use",
            file=sys.stderr,
        )
        routing = {}
    found: dict[str, Any] = {
        "run": folder.name,
        "name": _name(record),
        "experts_per_layer": record.experts_per_layer,
        "experts": experts,
        "linears": [each.as_data() for each in experts],
        "layers": {name: expert_similarity.by_layer(experts, name) for name in MEASURES},
        "routing": routing,
    }
    if experts:
        found["trend"] = {name: _trend(found["layers"][name]) for name in TRENDS}
    if options.start and experts:
        from molex_cli.analysis.ablation import similarity_at_start

        start = similarity_at_start(_opened(folder, options))
        found["start"] = {"input_overlap": expert_similarity.by_layer(start, "input_overlap")}
    if options.ablate:
        found["ablation"] = _ablated(folder, options)
    return found


def _name(record: Any) -> str:
    """Return a name that tells controls of the same method apart."""
    router = record.settings["method"].get("router", "learned")
    return f"{record.name}{'' if router == 'learned' else f' router={router}'} s{record.seed}"


def _trend(by_layer: dict[int, float]) -> float:
    """Return Spearman's correlation of a layer's depth with a measure."""
    from molex_cli.metrics.regression import spearman

    return spearman(list(by_layer), list(by_layer.values()))


def _opened(folder: Path, options: argparse.Namespace) -> Any:
    from molex_cli.checkpoints import saved_run as saved
    from molex_cli.runtime.hardware import Hardware

    return saved.opened(folder, options.which, Hardware())


def _ablated(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from molex_cli.analysis import ablation
    from molex_cli.checkpoints import saved_run as saved
    from molex_cli.config.paths import default_data_dir

    run = _opened(folder, options)
    if run.experiment.stages:
        raise ConfigError(f"--ablate must have a run on one task, got stages in {folder.name}")
    data_dir = options.data_dir or default_data_dir() or run.experiment.data_dir
    question = saved.EvaluationRequest(
        task=run.experiment.task, data_dir=data_dir, max_rows=options.max_rows or run.experiment.train.max_rows
    )
    score, losses = ablation.ablated(run, question, each_expert=options.ablate == "experts")
    return {
        "metric": run.experiment.task.metrics[0],
        "score": score,
        "without": [dataclasses.asdict(loss) for loss in losses],
    }


def _print_run(found: dict[str, Any], options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from molex_cli.cli.tables import show

    terminal = Console(highlight=False)
    terminal.print(f"[bold]{found['name']}[/bold]  {found['run']}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    per_linear = options.modules and found["linears"]
    names = [name for name in MEASURES if found["linears"]]
    for name in ("layer", *(["linear"] if per_linear else []), "experts", *(MEASURES[n] for n in names)):
        table.add_column(name, justify="left" if name == "linear" else "right")
    starts = found.get("start", {}).get("input_overlap", {}) if not per_linear else {}
    extra = [*(["at the start"] if starts else []), *USE, *(["margin"] if not names else [])]
    for name in extra:
        table.add_column(name, justify="right")
    for line in found["linears"] if per_linear else _layers(found):
        layer = str(line["layer"])
        routing = found["routing"].get(layer, {})
        use = routing.get("modules", {}).get(line["module"], {}) if per_linear else routing
        cells = [layer, *([line["module"]] if per_linear else []), str(line["experts"])]
        cells += [_number(line.get(name)) for name in names]
        cells += [_number(starts.get(line["layer"]))] if starts else []
        cells += [_number(use.get(name)) for name in (*USE, *(["margin"] if not names else []))]
        table.add_row(*cells)
    show(table)
    if "trend" in found:
        trends = ", ".join(f"{MEASURES[name]} {value:+.2f}" for name, value in found["trend"].items())
        terminal.print(f"Spearman's correlation with depth: {trends}", markup=False, soft_wrap=True)
    if "ablation" in found:
        _print_losses(found["ablation"])
    terminal.print()


def _layers(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a line for each layer that has experts or a choice of guests."""
    means = found["layers"]
    layers = sorted({*map(int, found["routing"]), *means["distance"]})
    count = found["experts_per_layer"] or {}
    return [
        {
            "layer": layer,
            "experts": count[layer] if count else len(found["routing"][str(layer)]["usage"]),
            **{name: means[name].get(layer) for name in MEASURES},
        }
        for layer in layers
    ]


def _print_losses(found: dict[str, Any]) -> None:
    from rich.table import Table

    from molex_cli.cli.tables import show

    table = Table(box=None, pad_edge=False)
    for name in ("layer", "expert", found["metric"], "change", "95 % over examples", "predictions changed"):
        table.add_column(name, justify="right")
    table.add_row("", "whole", f"{found['score']:.4f}", "", "", "")
    for loss in found["without"]:
        known = math.isfinite(loss["low"])
        table.add_row(
            str(loss["layer"]),
            "all" if loss["expert"] is None else str(loss["expert"]),
            f"{loss['score']:.4f}",
            f"{loss['change']:+.4f}",
            f"[{loss['low']:+.4f}, {loss['high']:+.4f}]" if known else "unknown",
            f"{loss['predictions_changed']} of {loss['of']}",
        )
    show(table)


def _print_together(found: list[dict[str, Any]]) -> None:
    """Print a measure of all runs, layer by layer, side by side."""
    from rich.table import Table

    from molex_cli.cli.tables import show

    with_experts = [each for each in found if each["linears"]]
    for name in TRENDS if with_experts else ():
        table = Table(title=MEASURES[name], title_justify="left", box=None, pad_edge=False)
        table.add_column("layer", justify="right")
        for each in with_experts:
            table.add_column(each["name"], justify="right")
        for layer in sorted({layer for each in with_experts for layer in each["layers"][name]}):
            table.add_row(str(layer), *(_number(each["layers"][name].get(layer)) for each in with_experts))
        show(table)


def _draw(found: dict[str, Any], folder: Path) -> None:
    """Write a heat map of similarity by layer and linear and one of the use of the experts."""
    from molex_cli.compare.plots import heat_map
    from molex_cli.records import unwritable
    from molex_cli.statistics.expert_similarity import table

    drawn = {}
    if found["experts"]:
        for name in ("distance", "cosine"):
            rows, columns, values = table(found["experts"], name)
            title = f"{found['name']}: {MEASURES[name]}"
            drawn[name] = heat_map(title, rows, values.tolist(), columns="linear", names=columns)
    if found["routing"]:
        rows = [f"layer {layer}" for layer in found["routing"]]
        usage = [statistics["usage"] for statistics in found["routing"].values()]
        drawn["usage"] = heat_map(f"{found['name']}: share of the routing", rows, usage)
    for name, figure in drawn.items():
        for ending in ("png", "svg"):
            path = folder / f"{found['run']}-{name}.{ending}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                figure.savefig(path, dpi=150)
            except OSError as error:
                raise unwritable(str(path), error) from None
            print(f"written: {path}")


def _number(value: "float | int | None") -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3g}"
