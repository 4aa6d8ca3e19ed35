"""`molex experts`: how alike the experts of each layer are, how they are used, and what is lost without them."""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from molex_cli.checkpoints.hub.opening import located
from molex_cli.cli import experts_output
from molex_cli.cli.parser import Parser
from molex_cli.errors import ConfigError, MolexError
from molex_cli.runtime.paths import distinct, expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.checkpoints.saved_run import SavedRun
    from molex_cli.records import Record

SUMMARY = "show how alike a layer's experts are, how they are used, and the score without them"


def main(argv: list[str]) -> int:
    """Analyse the experts of some runs."""
    options = _parser().parse(argv)
    if options.max_rows is not None and options.max_rows < 1:
        raise ConfigError(f"--max-rows must be at least 1, got {options.max_rows}")
    analyses = _analyses(options)
    if options.plots:
        for analysis in analyses:
            experts_output.draw(analysis, options.plots)
    if options.json:
        from molex_cli.records import as_json

        plain = [{key: value for key, value in analysis.items() if key != "experts"} for analysis in analyses]
        say(as_json(plain, indent=2))
        return 0
    for analysis in analyses:
        experts_output.print_run(analysis, options)
    if len(analyses) > 1:
        experts_output.print_together(analyses)
    return 0


def _parser() -> Parser:
    examples = ("molex experts outputs/NAME", "molex experts outputs/NAME --ablate layers")
    parser = Parser("experts", __doc__, examples=examples)
    parser.add_argument("runs", nargs="+", type=expanded, help="folders of runs, or hub:USER/NAME")
    parser.add_argument("--which", choices=("last", "best"), default="last", help="which adapter of a run")
    parser.add_argument("--modules", action="store_true", help="a line for each linear instead of each layer")
    parser.add_argument("--start", action="store_true", help="also the overlap of inputs before the first step")
    parser.add_argument("--ablate", choices=("layers", "experts"), help="score each run without each of them")
    parser.add_argument("--data-dir", type=expanded, help="folder with the official files (default: MOLEX_DATA)")
    parser.add_argument("--max-rows", type=int, help="score on so many rows only")
    parser.add_argument("--plots", type=expanded, metavar="DIR", help="write heat maps there, as PNG and SVG")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_renamed("--figures", "--plots")
    parser.add_renamed("--knock-out", "--ablate")
    return parser


def _analyses(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the analysis of each run; of several, those that cannot be analysed are left out with a line."""
    analyses = []
    for path in distinct(map(located, options.runs)):
        try:
            analyses.append(_analysed(path, options))
        except MolexError as error:
            if len(options.runs) == 1:
                raise
            say(f"left out: {error}", file=sys.stderr)
    if not analyses:
        raise ConfigError(f"runs must have experts, got none in {', '.join(map(str, options.runs))}")
    return analyses


def _analysed(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return how alike a run's experts are, how they are used, and what is lost without them."""
    from molex_cli.methods.base import low_rank_scale
    from molex_cli.records.run_folder import adapter_name, whole_record
    from molex_cli.statistics import expert_similarity

    record = whole_record(folder)
    # Routers without experts choose guests, and an ablation also works for LoRA's only expert.
    has_none = record.experts_per_layer is None and (record.routing or options.ablate)
    file = folder / adapter_name(options.which)
    experts = [] if has_none else expert_similarity.of_run(file, low_rank_scale)
    analysis: dict[str, Any] = {
        "run": folder.name,
        "name": _name(record),
        "experts_per_layer": record.experts_per_layer,
        "experts": experts,
        "linears": [each.as_data() for each in experts],
        "layers": {name: expert_similarity.by_layer(experts, name) for name in experts_output.MEASURES},
        "routing": _routing(record, folder, options.which),
    }
    if len(analysis["layers"]["norm"]) > 1:
        analysis["trend"] = {name: _trend(analysis["layers"][name]) for name in experts_output.TRENDS}
    if options.start and experts:
        from molex_cli.analysis.ablation import similarity_at_start

        start = similarity_at_start(_opened(folder, options))
        analysis["start"] = {"input_overlap": expert_similarity.by_layer(start, "input_overlap")}
    if options.ablate:
        analysis["ablation"] = _ablated(folder, options)
    return analysis


def _routing(record: "Record", folder: Path, which: str) -> dict[str, Any]:
    """Return the statistics of use that the record has of this adapter: those of the last evaluation."""
    best, last = record.evaluated("best"), record.evaluated("last")
    if which == "best" and best and last and best.get("step") != last.get("step"):
        say(
            f"{folder.name}: the record has the routing of the last evaluation only: no statistics of use",
            file=sys.stderr,
        )
        return {}
    return cast(dict[str, Any], record.routing)


def _name(record: "Record") -> str:
    """Return a name by which controls of the same method differ."""
    router = record.settings.get("method", {}).get("router", "learned")
    return f"{record.name}{'' if router == 'learned' else f' router={router}'} s{record.seed}"


def _trend(by_layer: dict[int, float]) -> float:
    """Return Spearman's correlation of a layer's depth with a measure."""
    from molex_cli.metrics.regression import spearman

    return spearman(list(by_layer), list(by_layer.values()))


def _opened(folder: Path, options: argparse.Namespace) -> "SavedRun":
    from molex_cli.checkpoints import saved_run
    from molex_cli.runtime.hardware import Hardware

    return saved_run.opened(folder, options.which, Hardware())


def _ablated(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from molex_cli.analysis import ablation
    from molex_cli.checkpoints import saved_run
    from molex_cli.config.paths import default_data_dir

    run = _opened(folder, options)
    if run.experiment.stages:
        raise ConfigError(f"--ablate must have a run on one task, got stages in {folder.name}")
    data_dir = str(options.data_dir or "") or default_data_dir() or run.experiment.data_dir
    request = saved_run.EvaluationRequest(
        task=run.experiment.task, data_dir=data_dir, max_rows=options.max_rows or run.experiment.train.max_rows
    )
    score, losses = ablation.ablated(run, request, each_expert=options.ablate == "experts")
    return {
        "metric": run.experiment.task.metrics[0],
        "score": score,
        "without": [dataclasses.asdict(loss) for loss in losses],
    }
