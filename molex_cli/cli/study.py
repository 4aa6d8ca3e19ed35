"""`molex study`: from a file of hypotheses to verdicts, in one command that resumes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.cli.parser import Parser
from molex_cli.cli.train import register_resolvers
from molex_cli.config import command_line, overrides, schema
from molex_cli.config.hydra_internals import BASIC_SWEEPER
from molex_cli.config.run_id import Job
from molex_cli.errors import ConfigError, MolexError
from molex_cli.launching.asked import require_queue, require_writable
from molex_cli.records import HOW_ONLY
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say
from molex_cli.tracking.wandb import require_usable

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from molex_cli.study.arms import Arm, Composer
    from molex_cli.study.definition import Study
    from molex_cli.study.runs import Ended

SUMMARY = "test the hypotheses of a file: match budgets, tune, add seeds only while a claim is open, report"


def main(argv: list[str]) -> int:
    """Conduct the study of a file, and write what came of it."""
    options = _parser().parse(argv)
    added = ["--config-dir", options.config_dir] if options.config_dir else []
    line = command_line.parse([*added, *options.overrides])
    schema.register()
    register_resolvers(line)
    from molex_cli.compare import figure
    from molex_cli.study import definition
    from molex_cli.study.arms import Composer, prepared, require_launch_only

    if options.figure is not None:
        figure.require(options.figure)
    study = definition.read(options.file)
    require_launch_only(line.overrides)
    composer = Composer(study.base, line)
    try:
        arms = prepared(study, composer)
    except MolexError as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        raise ConfigError([f"{options.file}: {problem}" for problem in problems]) from None
    for text in _planned(study, arms):
        say(text)
    return 0 if options.plan else _conduct(options.file, study, composer, arms, options.figure)


def _parser() -> Parser:
    parser = Parser(
        "study", __doc__, examples=("molex study study.yaml --plan", "molex study study.yaml hardware=pool")
    )
    parser.add_argument("file", type=expanded, help="YAML file of the study")
    where_and_how = "where and how it runs: hardware, log, output_dir, ...; what is compared stands in the file"
    parser.add_overrides(where_and_how, reads=("hardware", *HOW_ONLY))
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="adds YAML files to conf/")
    parser.add_argument("--plan", action="store_true", help="check the file, match budgets, count runs; run nothing")
    parser.add_argument("--figure", type=expanded, metavar="FILE", help="write the differences as pdf, svg or png too")
    return parser


def _planned(study: "Study", arms: Sequence["Arm"]) -> list[str]:
    """Return what is about to be done, in lines."""
    lines = [
        f"matched {arm.name}: {found.told(study.match.by, study.match.to)}"
        for arm in arms
        if study.match and (found := arm.solution)
    ]
    trials = len(study.tuning.combinations()) * study.tuning.seeds * len(arms) if study.tuning else 0
    tuning = f"{trials} runs to tune, then " if trials else ""
    least, most = (len(arms) * seeds for seeds in (study.seeds.first, study.seeds.most))
    claims = f"{len(study.contests)} claim{'s' if len(study.contests) > 1 else ''}"
    return [*lines, f"{len(arms)} arms, {claims}: {tuning}{least} to {most} runs"]


def _conduct(path: Path, study: "Study", composer: "Composer", arms: Sequence["Arm"], picture: Path | None) -> int:
    """Conduct a checked study."""
    from molex_cli.compare import figure
    from molex_cli.study import history, report
    from molex_cli.study.arms import variants
    from molex_cli.study.conduct import conduct
    from molex_cli.study.runs import Runs

    experiment = composer.experiment(*arms[0].overrides)
    require_usable({experiment.log.wandb})
    require_writable(experiment.output_dir)
    settings = _launcher_settings(composer, arms[0])

    def launch(jobs: Sequence[Job], about: Sequence[str]) -> "list[Ended]":
        return _launched(jobs, about, settings)

    digest = study.digest(variants(study, composer, arms))
    with history.folder_of(experiment.output_dir, path) as folder:
        history.seen(folder, path)
        runs = Runs(launch, begin=lambda: history.begun(folder, path, digest))
        found = conduct(study, composer, arms, runs, say)
        written = report.reported(path.stem, found, history.seen(folder, path), folder)
        say(*written.answers, f"written: {', '.join(map(str, report.write(written, folder)))}")
    if picture is not None:
        figure.write(written, picture)
        say(f"written: {picture}")
    return 0


def _launcher_settings(composer: "Composer", arm: "Arm") -> "DictConfig":
    """Return Hydra's own settings; raise ConfigError for a sweeper that would choose runs itself."""
    _, line = overrides.jobs(composer.line(*arm.overrides))
    settings = overrides.hydra_settings(replace(line, multirun=True))
    if settings.hydra.sweeper._target_ != BASIC_SWEEPER:
        raise ConfigError(
            f"hydra/sweeper must be basic in a study, which chooses its runs itself, got "
            f"{settings.hydra.sweeper._target_}"
        )
    require_queue(settings)
    return settings


def _launched(jobs: Sequence[Job], about: Sequence[str], settings: "DictConfig") -> "list[Ended]":
    """Run jobs as a sweep does; raise KeyboardInterrupt when that was."""
    from molex_cli.launching.sweeper import run_all
    from molex_cli.study.runs import Ended

    view, interrupted = run_all(jobs, settings, about)
    if interrupted:
        raise KeyboardInterrupt
    return [Ended(str(status.state), status.folder, status.error) for status in view.statuses]
