"""`molex diff`: in what two runs differ, and nothing else."""

from typing import Any

from molex_cli.checkpoints.hub.opening import located
from molex_cli.cli.parser import Parser
from molex_cli.errors import ConfigError
from molex_cli.records import HOW_ONLY
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

SUMMARY = "list how two runs differ: settings, data, versions, cost, scores"


def main(argv: list[str]) -> int:
    """Show the differences of two runs."""
    parser = Parser("diff", __doc__, examples=("molex diff outputs/ONE outputs/OTHER",))
    parser.add_argument(
        "runs", nargs=2, type=expanded, metavar="RUN", help="a run's folder, its record, or hub:USER/NAME"
    )
    paths = [located(path) for path in parser.parse(argv).runs]
    from rich.table import Table

    from molex_cli.compare.arms import differing
    from molex_cli.records import flat
    from molex_cli.records.run_folder import whole_record
    from molex_cli.runtime.terminal import show

    facts = [flat(_facts(whole_record(path))) for path in paths]
    keys = differing(facts)
    if not keys:
        say("no differences")
        return 0
    shown = Table(box=None, pad_edge=False)
    for name in ("", *(str(path) for path in paths)):
        shown.add_column(name, no_wrap=True)
    for key in keys:
        shown.add_row(key, *("–" if key not in each else str(each[key]) for each in facts))
    show(shown)
    return 0


def _facts(record: Any) -> dict[str, Any]:
    """Return in what two runs may differ: settings, data, versions, cost, scores."""
    if record.status == "running":
        raise ConfigError(f"a run must have ended to be compared, got {record.name} (seed {record.seed}) still running")
    scores = {which: each["scores"] for which in ("last", "best") if (each := record.evaluated(which))}
    environment = record.environment
    return {
        **{key: value for key, value in record.settings.items() if key not in HOW_ONLY},
        "status": record.status,
        "error": (record.error or {}).get("message"),
        "scores": scores,
        "degenerate": "; ".join(record.degenerate) or None,
        "parameters": record.parameters,
        "flops_per_token": record.flops_per_token,
        "experts_per_layer": record.experts_per_layer,
        "rank_per_layer": record.rank_per_layer,
        "data": {split: about.get("fingerprint") for split, about in record.data.items()},
        "packages": environment.get("packages", {}),
        "commit": environment.get("git"),
    }
