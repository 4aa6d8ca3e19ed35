"""What `molex eval` scores besides tasks: language models, by lm-evaluation-harness or by their loss on a text."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molex_cli.errors import ConfigError, TaskError
from molex_cli.records.evaluation import LANGUAGE
from molex_cli.records.run_folder import adapter_of
from molex_cli.runtime.extras import install, is_installed
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.checkpoints.saved_run import SavedRun
    from molex_cli.cli.eval_ import Settings
    from molex_cli.config.schema import Experiment
    from molex_cli.evaluators.harness import HarnessRequest
    from molex_cli.evaluators.text import Bases

EVERYWHERE = ("run", "which", "hardware", "cache_dir", "train.eval_batch_size", "train.max_length")
READ = {  # what each reads beside these
    "lm_eval": ("lm_eval", "lm_eval_path", "lm_eval_num_fewshot", "lm_eval_limit", "lm_eval_seed"),
    "text": ("text", "text_stride", "train.max_rows"),
}
WHY = {"lm_eval": "the harness's task says what is scored", "text": "the text is what is scored"}


def in_brackets(text: str) -> str:
    """Return an override with the harness's own way to name tasks, `arc_challenge,hellaswag`, as a list."""
    key, _, value = text.partition("=")
    return f"{key}=[{value}]" if key == "lm_eval" and value and not value.startswith("[") else text


def kind_of(settings: "Settings", typed: set[str]) -> str:
    """Return lm_eval or text, or nothing where a task is scored; raise ConfigError for settings that are not read."""
    asked = [kind for kind in LANGUAGE if getattr(settings, kind)]
    if len(asked) > 1:
        raise ConfigError("lm_eval must stand without text, got both; run the command once for each")
    if not asked:
        for key in sorted(typed & {key for kind in LANGUAGE for key in READ[kind][1:] if key.startswith(kind)}):
            example = "lm_eval=[arc_challenge]" if key.startswith("lm_eval") else "text=FILE"
            raise ConfigError(f"{key} must come with {example}, got it alone")
        return ""
    (kind,) = asked
    allowed = (*EVERYWHERE, *READ[kind])
    for key in sorted(typed):
        if key not in allowed and key.split(".")[0] not in allowed:
            raise ConfigError(f"{key} must be left out beside {kind}, got a value; {WHY[kind]}")
    return kind


class Scoring:
    """Scores one run after another; what they share is read once."""

    def __init__(self, kind: str, settings: "Settings", given: "Experiment", keys: set[str]) -> None:
        self.kind, self.settings, self.given, self.keys = kind, settings, given, keys
        self._bases: Bases | None = None
        if kind == "lm_eval":
            _require_possible(settings)
        else:
            file = expanded(settings.text or "")
            if not file.exists():
                raise ConfigError(f"text must be a file, got {file}, which does not exist")

    def scored(self, path: Path) -> "tuple[list[dict[str, Any]], SavedRun]":
        """Score a run; what does not fit fails before its model is loaded."""
        adapter_of(path, self.settings.which)
        from molex_cli.checkpoints import saved_run
        from molex_cli.objectives import head_outputs

        about = saved_run.about(path, self.settings.which)
        experiment = about.experiment
        if head_outputs(experiment.task, experiment.model, about.labels) is not None:
            raise TaskError(
                f"run must be of a language model for {self.kind}, got one with a head ({experiment.model.name} on "
                f"{experiment.task.name})"
            )
        return self._by_harness(path) if self.kind == "lm_eval" else self._on_text(path)

    def _by_harness(self, path: Path) -> "tuple[list[dict[str, Any]], SavedRun]":
        from molex_cli.checkpoints import saved_run
        from molex_cli.evaluators import harness

        about = saved_run.about(path, self.settings.which)
        request = self._request(about.experiment)
        harness.prepare(request)
        run = saved_run.opened(path, self.settings.which, self.given.hardware, self.given.cache_dir)
        found = harness.scores(run.adapted, request)
        return [_left(run, "lm_eval", request.batch_size, *each) for each in found], run

    def _request(self, own: "Experiment") -> "HarnessRequest":
        from molex_cli.evaluators.harness import HarnessRequest

        settings = self.settings
        is_cut = "train.max_length" in self.keys
        return HarnessRequest(
            tasks=tuple(settings.lm_eval),
            folder=expanded(settings.lm_eval_path) if settings.lm_eval_path else None,
            num_fewshot=settings.lm_eval_num_fewshot,
            limit=settings.lm_eval_limit,
            seed=settings.lm_eval_seed,
            batch_size=self._train(own, "eval_batch_size"),
            max_length=self.given.train.max_length if is_cut else None,
        )

    def _train(self, own: "Experiment", name: str) -> Any:
        """Return a setting of train: the command line's, else the run's own."""
        return getattr(self.given.train if f"train.{name}" in self.keys else own.train, name)

    def _on_text(self, path: Path) -> "tuple[list[dict[str, Any]], SavedRun]":
        from molex_cli.checkpoints import saved_run
        from molex_cli.evaluators import text

        about = saved_run.about(path, self.settings.which)
        size, window = self._train(about.experiment, "eval_batch_size"), self._train(about.experiment, "max_length")
        stride = max(1, window // 2) if self.settings.text_stride is None else self.settings.text_stride
        file = expanded(self.settings.text or "")
        request = text.TextRequest(file=file, window=window, stride=stride, max_windows=self.given.train.max_rows)
        encoded = text.windows(about, request)
        self._bases = self._bases or text.Bases()
        base = self._bases.losses(about, encoded, size, self.given.hardware, self.given.cache_dir)
        run = saved_run.opened(path, self.settings.which, self.given.hardware, self.given.cache_dir)
        found, rows = text.compared(text.losses(run.adapted, encoded, size, run.device), base)
        return [_left(run, "text", size, {**text.described(request, encoded), **found}, rows)], run


def _left(
    run: "SavedRun", kind: str, batch_size: int, found: Mapping[str, Any], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write an evaluation into the run's folder as those of tasks stand there."""
    from molex_cli.checkpoints.saved_run import digest, left
    from molex_cli.records import file_part

    about = {key: value for key, value in found.items() if key not in ("protocol", "answer_mode")}
    result = {
        **about,
        "where": {},
        "split": kind,
        "adapter": run.file.name,
        "step": run.step,
        "perturbation": None,
        "mapping": {},
        "degenerate": [],
        "evaluation": {
            "labels": [],
            "positive": None,
            "answer_mode": found["answer_mode"],
            "batch_size": batch_size,
            "depends_on_batch": run.adapted.batch_dependent or None,
            "protocol": found["protocol"],
        },
    }
    identity = [found["task"], run.file.name, found["protocol"], found["max_length"], batch_size]
    return left(run, f"{file_part(found['task'])}-{kind}-{digest(identity)}", result, rows)


def _require_possible(settings: "Settings") -> None:
    """Raise ConfigError for what the harness cannot do, before it is imported where that is possible."""
    if settings.lm_eval_limit is not None and settings.lm_eval_limit <= 0:
        raise ConfigError(f"lm_eval_limit must be above 0, got {settings.lm_eval_limit:g}")
    if settings.lm_eval_num_fewshot is not None and settings.lm_eval_num_fewshot < 0:
        raise ConfigError(f"lm_eval_num_fewshot must be at least 0, got {settings.lm_eval_num_fewshot}")
    folder = expanded(settings.lm_eval_path) if settings.lm_eval_path else None
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"lm_eval_path must be a folder of the harness's task files, got {folder}")
    if not is_installed("lm_eval"):
        raise ConfigError(f"lm_eval must have lm-evaluation-harness, got none; {install('lm-eval')}")


def line(path: Path, result: Mapping[str, Any]) -> str:
    """Return the scores of a run as a line."""
    return "  ".join([path.name, result["task"], *_told(result)])


def _told(result: Mapping[str, Any]) -> Iterator[str]:
    scores = result["scores"]
    if result["split"] == "text":
        for name in ("loss", "perplexity"):
            yield f"{name} {scores[name]:.4f} (base {scores[f'base_{name}']:.4f})"
        yield f"increase {_increase(result)}"
        yield f"{result['tokens']:,} tokens"
        return
    errors = result["stderr"]
    for name, score in scores.items():
        yield f"{name} {score:.4f}" + ("" if errors[name] is None else f" ± {errors[name]:.4f}")
    yield f"{result['rows_used']:,} rows"


def _increase(result: Mapping[str, Any]) -> str:
    """Return by how much the loss is larger than the base model's, with the interval where there is one."""
    found = result["increase"]
    ends = "" if found["low"] is None else f" [{found['low']:+.4f}, {found['high']:+.4f}]"
    return f"{found['estimate']:+.4f}{ends}"


def show(results: list[dict[str, Any]], run: "SavedRun") -> None:
    """Print the scores of one run as a table."""
    from rich.table import Table

    from molex_cli.runtime import terminal

    terminal.Terminal(soft_wrap=True).print(run.experiment.name, style="bold")
    is_text = results[0]["split"] == "text"
    columns = ("text", "model", "loss", "perplexity") if is_text else ("task", "metric", "score", "error", "rows")
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name in columns[:2] else "right")
    for row in (row for result in results for row in (_text_rows if is_text else _task_rows)(result)):
        table.add_row(*row)
    terminal.show(table)
    for result in results if is_text else ():
        say(f"increase of the loss {_increase(result)} nats a token, over {result['tokens']:,} tokens")
    say(f"written to {run.folder}/evaluations")


def _task_rows(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, score in result["scores"].items():
        error = result["stderr"][name]
        yield result["task"], name, f"{score:.4f}", "" if error is None else f"{error:.4f}", f"{result['rows_used']:,}"


def _text_rows(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for who, prefix in (("base", "base_"), ("adapted", "")):
        yield (result["task"], who, *(f"{result['scores'][f'{prefix}{name}']:.4f}" for name in ("loss", "perplexity")))
