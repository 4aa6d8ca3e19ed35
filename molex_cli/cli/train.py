"""`molex train`: one run, or with -m a sweep, after the command line has been checked."""

import math
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from molex_cli.analysis.allocating import frozen
from molex_cli.cli.parser import Parser
from molex_cli.config import command_line, environment, overrides, own_files, schema
from molex_cli.config.parsing import one_line
from molex_cli.cost.arms import Budget, add_flags
from molex_cli.errors import ConfigError, MolexError, all_of
from molex_cli.launching import one_run
from molex_cli.launching.asked import asked
from molex_cli.metrics.base import scored_class
from molex_cli.records.locks import Resume
from molex_cli.runtime.streams import say

SUMMARY = "fine-tune one model with one method on one task, and record the run; -m sweeps"
EXAMPLES = (
    "molex train",
    "molex train method=mola_inverted task=glue/rte seed=1",
    "molex train method=lora method.rank=4 train.epochs=1",
    "molex train -m method=lora,mola_inverted seed=0,1,2",
    "molex train method=molex --help method",
)


def main(argv: list[str]) -> int:
    """Check the command line, then show what Hydra shows, run one experiment or sweep over many."""
    _parser().show_what_is_asked(argv)
    budget, argv = _budget(argv)
    line = command_line.parse(argv)
    schema.register()
    register_resolvers(line)
    if line.shows:
        if budget:
            raise ConfigError(f"--match must go without {line.shows}, got both; molex plan --match says what it sets")
        if line.shows in ("--cfg", "--info"):
            _, line = overrides.jobs(line)
            _require_package(line)
        return application(line.argv(), str(line.config_path))
    found = asked(line, budget)
    if found.is_one_run:
        return _run_one(found.jobs[0].experiment)
    if found.is_search:
        from molex_cli.config.task_metrics import metric_of
        from molex_cli.launching.optimiser import with_search

        first = found.jobs[0].experiment
        search = with_search(found.line, metric_of(first.task, first.task.metrics[0]), found.settings.hydra.sweeper)
        return 0 if search is None else _search(search, found.typed, first)
    _require_own_rows([job.experiment for job in found.jobs])
    from molex_cli.launching.sweeper import sweep

    return sweep(found.jobs, found.settings, found.typed)


def _parser() -> Parser:
    """Return what --help lists; Hydra's own parser reads the arguments."""
    parser = Parser(
        "train",
        "Fine-tune one model with one method on one task, and record the run; with -m run a sweep.",
        usage="molex train [key=value ...] [flags]",
        examples=EXAMPLES,
    )
    parser.add_overrides()
    parser.lists_all = True
    parser.add_argument("-m", "--multirun", action="store_true", help="a sweep: key=a,b runs one job for each value")
    parser.add_argument("-cd", "--config-dir", metavar="DIR", help="a folder of YAML files beside the shipped ones")
    parser.add_argument("-cn", "--config-name", metavar="NAME", help="the file to begin with, instead of config")
    parser.add_argument("-cp", "--config-path", metavar="DIR", help="a folder of YAML files instead of the shipped")
    shows = "print the settings instead of a run: the job's, Hydra's own, or both"
    add_flags(parser)
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"), help=shows)
    parser.add_argument("-p", "--package", metavar="KEY", help="with --cfg: this part alone")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: variables replaced by their values")
    parser.add_argument("-i", "--info", metavar="WHAT", help="how Hydra composes: searchpath, defaults, all, ...")
    parser.add_argument("--hydra-help", action="store_true", help="Hydra's own flags")
    return parser


def register_resolvers(line: command_line.CommandLine | None = None) -> None:
    """Let YAML files name the choices of a group and the size of a pool."""
    folders = line.folders if line else None
    OmegaConf.register_new_resolver(
        "molex_options", lambda group: ", ".join(command_line.options(group, folders)), replace=True
    )
    OmegaConf.register_new_resolver("molex_slots", _slots, replace=True)


@environment.guarded()
def application(argv: list[str], config_path: str, name: str = "molex train") -> int:
    """Let Hydra do the rest: its displays, and sweepers that choose the next job by what the last one scored."""
    # With this set Hydra leaves errors to the caller, who prints one line for a user's mistake.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [name, *argv]
    try:
        with own_files.judged():
            hydra.main(version_base="1.3", config_path=config_path, config_name="config")(job)()
    except HydraException as error:
        raise ConfigError(one_line(error)) from error
    except ValueError as error:
        if "dynamic value space" not in str(error):
            raise
        raise ConfigError(
            "hydra.sweeper.study_name must name a study over the same values, got one over others; choose another name"
        ) from error
    return 0


def job(config: DictConfig) -> float:
    """Run one job of a sweeper that optimises, and return its score: the last of the first metric.

    Where training rows were set apart to choose the best, it is the score on these.
    """
    from molex_cli.launching.torchrun import run_here

    experiment = frozen(schema.resolve(config))
    if experiment.resume is Resume.missing:
        experiment.resume = Resume.failed  # a trial that failed before has no score to return
    record = run_here(experiment)
    last = record.scores["last"]
    score = (last.get("selection") or last["scores"])[record.scores["metric"]]
    return math.nan if score is None else float(score)


def _budget(argv: Sequence[str]) -> tuple[Budget | None, list[str]]:
    """Return the budget that all arms are to meet, if one is asked for, and the other arguments."""
    if not any(text.partition("=")[0] in ("--match", "--solve", "--by") for text in argv):
        return None, list(argv)
    parser = Parser("train", None, add_help=False, allow_abbrev=False)
    add_flags(parser)
    options, others = parser.parse_known_args(argv)
    if options.match is None:
        raise ConfigError("--solve and --by must go with --match, got no arm to match; add --match lora:rank=64")
    return Budget(options.match, options.solve, options.by), others


def _search(search: command_line.CommandLine, typed: command_line.CommandLine, experiment: schema.Experiment) -> int:
    """Let an optimiser search, and say what it found and how to run that."""
    from molex_cli.launching.winner import found_by_optimiser, results_in

    before = results_in(experiment.output_dir)
    code = application(search.argv(), str(search.config_path))
    for path in results_in(experiment.output_dir) - before:
        say(*found_by_optimiser(path, typed, experiment))
    return code


def _require_package(line: command_line.CommandLine) -> None:
    """Raise if --package names no part of the settings."""
    if (
        line.package not in (None, "_global_")
        and OmegaConf.select(overrides.hydra_settings(line), line.package) is None
    ):
        raise ConfigError(f"--package must be a part of the settings, got {line.package}; --cfg job lists them all")


def _run_one(experiment: schema.Experiment) -> int:
    """Run one experiment; what failed before is tried again, what has finished is shown."""
    if done := one_run.finished(experiment):
        assert done.record is not None
        positive = done.record.evaluation.get("positive")
        scores = done.record.scores["last"]["scores"]
        named = {scored_class(name, positive): math.nan if value is None else value for name, value in scores.items()}
        say("  ".join(f"{name} {value:.4f}" for name, value in named.items()))
        say(f"finished before  {done.folder}/record.json  (resume=never runs it again beside it)")
        return 0
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts the first one speaks
        say(f"reading {experiment.task.name}, then loading transformers / {experiment.model.name} ...", flush=True)
    try:
        one_run.trained(experiment)
    except MolexError as error:
        if getattr(error, "__notes__", None):  # its record and its last line already say so
            return 2
        raise
    except Exception as error:
        traceback.print_exception(error)
        return 1
    return 0


def _require_own_rows(experiments: Sequence[schema.Experiment]) -> None:
    """Raise before a sweep begins if files of one's own cannot be what its jobs train on."""
    from molex_cli.data import reading

    own: dict[str, schema.Experiment] = {}
    for each in experiments:
        if any(task.files.train for task in (each.task, *each.stages.values())):
            own.setdefault(
                str((each.task, each.stages, each.data_dir, each.train.max_rows, each.train.selection)), each
            )
    all_of({key: partial(reading.read_all, each) for key, each in own.items()})


def _slots(devices: Sequence[str], jobs_per_device: int) -> int:
    """Return how many jobs run at once: so many on each device, or so many in all where none is leased."""
    return max(1, len(devices)) * jobs_per_device
