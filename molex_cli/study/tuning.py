"""Tuning: every arm tries the same values on seeds of their own, and the selection rows choose."""

from collections.abc import Callable, Sequence

from molex_cli.compare.tuning import Tuned, chosen
from molex_cli.config.sweeps import as_text
from molex_cli.study.arms import Arm, Composer
from molex_cli.study.definition import Study
from molex_cli.study.runs import Runs


def tuned(
    study: Study, composer: Composer, arms: Sequence[Arm], runs: Runs, tell: Callable[[str], None]
) -> dict[str, Tuned]:
    """Return what was chosen for each arm; nothing where nothing is tuned."""
    tune = study.tuning
    if tune is None:
        return {}
    jobs = {
        (arm.name, values): [composer.job(arm, seed, tune.overrides(values)) for seed in tune.each_seed]
        for arm in arms
        for values in tune.combinations()
    }
    about = f"tuning {', '.join(tune.grid)}: {sum(map(len, jobs.values()))} runs, as many of each arm"
    tell(about)
    found = iter(runs.of([job for each in jobs.values() for job in each], [about], may_diverge=True))
    trials = {key: [next(found) for _ in each] for key, each in jobs.items()}
    return {
        arm.name: chosen(
            {values: of for (name, values), of in trials.items() if name == arm.name},
            list(tune.grid),
            tune.each_seed,
            study.which,
            arm.name,
        )
        for arm in arms
    }


def settings_of(found: Tuned) -> list[str]:
    """Return what was chosen, as for `molex train`."""
    return [f"{key}={as_text(value)}" for key, value in found.values.items()]


def remarks(found: Tuned) -> list[str]:
    """Return what a reader must know of a choice: trials, those that diverged, and values at the edge of the grid."""
    diverged = [f"{found.diverged} diverged"] if found.diverged else []
    edges = [f"{key} at the edge of its grid" for key in found.edges]
    return [f"{found.trials} trials", *diverged, *edges]
