"""`molex wandb-view`: save a W&B workspace that shows runs as arms: grouped by variant, scores, cost, routing."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.cli.parser import Parser
from molex_cli.compare.targets.definition import OF_STAGES
from molex_cli.errors import ConfigError, MolexError
from molex_cli.runtime.extras import install
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.records import Record

SUMMARY = "save a W&B workspace of arms and seeds: scores, cost, routing"
COSTS = ("parameters.trainable", "flops_per_token.active")
OLD_PICTURE = "routing/usage"  # of runs of before
CURVES = ("loss", "balance_loss", "learning_rate", "gradient_norm")


def main(argv: list[str]) -> int:
    """Save the workspace, or print it."""
    options = _parser().parse(argv)
    from molex_cli.compare.loading import load
    from molex_cli.records import read_record
    from molex_cli.tracking.wandb import in_one_line, require_server

    found = load(options.paths)
    for line in found.left_out:
        say(f"left out: {line}", file=sys.stderr)
    runs = found.runs
    if not runs:
        raise ConfigError(f"paths must hold finished runs, got none in {', '.join(map(str, options.paths))}")
    logs = [run.record.settings.get("log", {}) for run in runs]
    project = _only_value("project", options.project, [log.get("project") for log in logs]) or "molex"
    entity = _only_value("entity", options.entity, [log.get("entity") for log in logs])
    records = [read_record(run.folder) for run in runs]
    if options.json:
        view = _workspace(entity or "", project, records)
        say(view._to_model().model_dump_json(by_alias=True, indent=2, exclude_none=True))
        return 0
    require_server()
    try:
        view = _workspace(entity or _default_entity(), project, records)
        view.save()
    except MolexError:
        raise
    except Exception as error:  # the client raises whatever its transport does
        raise ConfigError(
            f"W&B's server must take the workspace, got {type(error).__name__}: {in_one_line(error)}"
        ) from None
    say(view.url)
    return 0


def _parser() -> Parser:
    parser = Parser("wandb-view", __doc__, examples=("molex wandb-view", "molex wandb-view outputs --project molex"))
    parser.add_argument(
        "paths",
        nargs="*",
        type=expanded,
        default=[Path("outputs")],
        help="runs that say which panels (default: outputs)",
    )
    parser.add_argument("--project", help="W&B project (default: that of the runs)")
    parser.add_argument("--entity", help="W&B user or team (default: that of the runs, or yours)")
    parser.add_argument("--json", action="store_true", help="print the workspace instead of saving it")
    return parser


def _only_value(name: str, flag: str | None, logged: Sequence[str | None]) -> str | None:
    """Return the flag's value, else the one that all runs were logged to."""
    if flag is not None:
        return flag
    if len(set(logged)) > 1:
        raise ConfigError(f"--{name} must be given where the runs have several, got {', '.join(map(str, set(logged)))}")
    return logged[0]


def _default_entity() -> str:
    import wandb

    entity: str = wandb.Api().default_entity
    return entity


def _workspace(entity: str, project: str, runs: "Sequence[Record]") -> Any:
    """Return the workspace with the panels that these records have something for."""
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as ws
    except ImportError:
        way_out = install("dashboard")
        raise ConfigError(f"molex wandb-view must have wandb-workspaces, got none; {way_out}") from None
    from molex_cli.tracking.wandb import PICTURE, SUMMARIES

    metrics = sorted({name for run in runs if (last := run.evaluated("last")) for name in last["scores"]})
    sections = [
        ws.Section(name="Scores", panels=_score_panels(runs, metrics), is_open=True),
        ws.Section(name="Training", panels=[_curve(f"train/{name}") for name in CURVES], is_open=True),
        ws.Section(name="Cost", panels=_cost_panels(metrics)),
    ]
    if any(run.routing for run in runs):
        pictures = panels.MediaBrowser(title="use of the experts", media_keys=[PICTURE, OLD_PICTURE])
        sections.append(ws.Section(name="Routing", panels=[pictures, *map(_routing_panel, SUMMARIES)]))
    return ws.Workspace(
        entity=entity,
        project=project,
        name="molex: arms and seeds",
        sections=sections,
        runset_settings=ws.RunsetSettings(
            filters=[ws.Summary("status") == "finished"],
            groupby=[ws.Config("method.name"), ws.Config("task.name"), ws.Config("variant")],
        ),
    )


def _by_arm() -> dict[str, Any]:
    """Return how a panel groups the runs: the seeds of a variant are one arm, shown by their mean."""
    import wandb_workspaces.reports.v2 as panels

    return {"groupby": panels.Config("variant"), "groupby_aggfunc": "mean"}


def _curve(key: str) -> Any:
    import wandb_workspaces.reports.v2 as panels

    return panels.LinePlot(title=key, x="Step", y=[key], groupby_rangefunc="minmax", **_by_arm())


def _score_panels(runs: "Sequence[Record]", metrics: Sequence[str]) -> list[Any]:
    """Return the curves of each metric on validation, of every stage, and bars of its last and best value."""
    import wandb_workspaces.reports.v2 as panels

    stages = sorted({f"{name}/" for run in runs for name in run.scores.get("stages", [])}) or [""]
    curves = [
        _curve(f"{stage}validation/{metric}") for stage in stages for metric in metrics if metric not in OF_STAGES
    ]
    keys = [f"{which}/{metric}" for metric in metrics for which in ("last", "best")]
    return [*curves, *(panels.BarPlot(title=key, metrics=[key], **_by_arm()) for key in keys)]


def _cost_panels(metrics: Sequence[str]) -> list[Any]:
    import wandb_workspaces.reports.v2 as panels

    return [
        panels.ScatterPlot(
            title=f"last/{metric} by {key}", x=panels.Config(key), y=panels.SummaryMetric(f"last/{metric}")
        )
        for metric in metrics
        for key in COSTS
    ]


def _routing_panel(statistic: str) -> Any:
    """Return the curves of a statistic in all layers, under the names of today and of before."""
    import wandb_workspaces.reports.v2 as panels

    keys = f"^(.*/)?routing/layer_[0-9]+/{statistic}$"
    return panels.LinePlot(title=f"{statistic} by layer", x="Step", metric_regex=keys, **_by_arm())
