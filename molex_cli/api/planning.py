"""What a method costs on a model, from Python."""

from molex_cli.api import asked, require_texts
from molex_cli.config import command_line, overrides
from molex_cli.cost.arms import Budget, solved
from molex_cli.cost.estimate import Estimate, estimated
from molex_cli.errors import ConfigError
from molex_cli.runtime import sizes


@asked()
def plan(
    *settings: str,
    match: str | None = None,
    solve: str = "rank",
    by: str = "parameters",
    memory: bool = False,
    fit: str | None = None,
) -> Estimate:
    """Return experts and ranks per layer, exact parameters and FLOPs of a method on a model; no weights are loaded.

    `settings` and the rest are as for `molex plan`: `plan("model=llama2_7b", "method=mola_triangle")`. The result has
    `parameters` (by part; `trainable`, `total`), `experts_per_layer`, `rank_per_layer`, `flops_per_token` and
    `experiment`. With `match`, such as `"lora:rank=64"`, its `match.overrides` are what meets that arm's budget. With
    `memory`, or `fit` such as `"24GB"`, its `memory` is what a training step holds, in bytes, and what fits.
    """
    require_texts(settings)
    limit = sizes.parsed(str(fit), "fit") if fit is not None else None
    line = command_line.CommandLine(overrides=list(settings), multirun=match is not None)
    jobs, _ = overrides.jobs(line)
    if match is None:
        return estimated(jobs[0].experiment, memory=memory, limit=limit)
    found = solved(jobs, line, Budget(match, solve, by))
    if len(found) > 1:
        raise ConfigError(f"plan must get the settings of one arm, got {len(found)}; call it once for each")
    solution, experiment = next(iter(found.values()))
    return estimated(experiment, solution, memory=memory, limit=limit)
