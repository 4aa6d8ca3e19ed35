"""The model card of a run: what was trained, how it scores, how to load it."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from molex_cli import __version__
from molex_cli.checkpoints.hub.metadata import HUB_ID, Content, metadata
from molex_cli.checkpoints.hub.scores import Scored
from molex_cli.compare.formats.md import escaped, table
from molex_cli.config.schema import Experiment
from molex_cli.objectives import head_outputs
from molex_cli.records import Record, as_json
from molex_cli.statistics.intervals import LEAST_SEEDS, Interval

ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
SUMS = ("added", "trainable", "total")


def text(content: Content) -> str:
    """Return the card: metadata, then sentences and tables."""
    return f"---\n{metadata(content)}\n---\n\n" + "\n\n".join(_parts(content)) + "\n"


def _parts(content: Content) -> Iterator[str]:
    experiment, record = content.experiment, content.record
    method, model = record.display.get("method") or experiment.method.display_name, experiment.model
    yield f"# {escaped(method)} on {escaped(experiment.task.name)}"
    yield (
        f"An adapter for {_base(experiment)}, trained on {escaped(experiment.task.name)} with molex {__version__}, "
        f"seed {record.seed}. It holds what {escaped(method)} trained, not the weights of {escaped(model.name)}."
    )
    yield from _warnings(record)
    yield from ("## Load", *_how_to_load(content))
    if content.scores:
        yield from ("## Scores", *_scores(content))
    yield from ("## Budget", *_budget(record))
    yield from ("## Training", _training(content))
    yield from ("## Data and base", _data(record))
    yield "`record.json` has every setting, versions and self-checks."


def _base(experiment: Experiment) -> str:
    """Return where the base model comes from."""
    model = experiment.model
    if model.hub:
        is_address = HUB_ID.fullmatch(model.hub) is not None
        return f"[{escaped(model.hub)}](https://huggingface.co/{model.hub})" if is_address else escaped(model.hub)
    if model.package:
        return f"{escaped(model.name)} of the Python package {escaped(model.package)}"
    if model.folder:
        return f"a model in a local folder named {escaped(model.folder)}"
    return f"{escaped(model.name)} with random weights (for tests)"


def _warnings(record: Record) -> Iterator[str]:
    """Yield what a reader must know before anything else."""
    if record.degenerate:
        yield f"**Degenerate: {escaped('; '.join(record.degenerate))}. Its scores say nothing of the method.**"
    if record.status == "imported":
        yield "**Imported: another program trained it, and nothing is known of how.**"
    if (record.environment.get("git") or {}).get("dirty"):
        yield "The code that trained it had changes that no commit holds."


def _how_to_load(content: Content) -> Iterator[str]:
    which = "" if content.which == "last" else f" which={content.which}"
    lines = [f"molex predict {content.run}{which} --file new.csv", f"molex eval {content.run}{which}"]
    yield "```\n" + "\n".join(lines) + "\n```"
    more = "" if content.which == "last" else f', which="{content.which}"'
    task = content.experiment.task
    row = as_json(dict.fromkeys(task.columns, "...") | ({task.choices: ["...", "..."]} if task.choices else {}))
    lines = ["import molex_cli", "", f'run = molex_cli.load("{content.run}"{more})', f"print(run.predict([{row}]))"]
    yield "```python\n" + "\n".join(lines) + "\n```"
    yield "`run.model` is a model of transformers, `run.tokenizer` its tokenizer."
    if content.experiment.model.folder:
        name = escaped(content.experiment.model.folder)
        yield f"The base model must lie in a folder named {name} where the command is started, or be linked there."
    if content.labels:
        yield f"Its labels, in the order of its outputs: {escaped(', '.join(content.labels))}."
    if content.for_peft:
        yield "PEFT opens it, too:"
        yield _with_peft(content)


def _with_peft(content: Content) -> str:
    task, model = content.experiment.task, content.experiment.model
    outputs = head_outputs(task, model, content.labels)
    auto = "AutoModelForCausalLM" if outputs is None else "AutoModelForSequenceClassification"
    named = model.hub or model.folder or ""
    base = named if HUB_ID.fullmatch(named) else "FOLDER OF THE BASE MODEL"
    more = "" if outputs is None else f", num_labels={outputs}"
    revision = f', revision="{content.revision}"' if content.revision else ""
    return (
        f"```python\nfrom peft import PeftModel\nfrom transformers import {auto}\n\n"
        f'base = {auto}.from_pretrained("{base}"{more})\n'
        f'model = PeftModel.from_pretrained(base, "{content.repo}"{revision})\n```'
    )


def _scores(content: Content) -> Iterator[str]:
    record, which = content.record, content.which
    evaluated: Mapping[str, Any] = record.evaluated(which) or {}
    rows = record.data.get("validation", {}).get("rows_used")
    head = ["metric", "score", "95 % over examples", "best constant", "mean ± sd over seeds", "95 % over seeds"]
    yield table(head, [_score_row(each) for each in content.scores], [False, *[True] * 5])
    on = f"{rows:,} rows" if rows else "the rows"
    chosen = f"; {escaped(record.scores['selection'])}" if which == "best" and "selection" in record.scores else ""
    yield f"On {on} of validation, the {which} evaluation, step {evaluated.get('step', '–')}{chosen}."
    yield "\n".join(f"- {line}" for line in _what_intervals_mean(content.scores))


def _score_row(scored: Scored) -> list[str]:
    times, unit = scored.metric.scale, " %" if scored.metric.scale == 100 else ""
    cell, several = scored.arm, len(scored.arm.by_seed) > 1
    numbers = [_number(each, times) for each in (scored.score, scored.constant)]
    over_seeds = (
        f"{_number(cell.mean, times)} ± {_number(cell.deviation, times)} ({len(cell.by_seed)})" if several else "–"
    )
    return [
        escaped(scored.name + unit),
        numbers[0],
        _range(scored.examples, times),
        numbers[1],
        over_seeds,
        _range(scored.seeds, times),
    ]


def _what_intervals_mean(scores: Sequence[Scored]) -> Iterator[str]:
    yield "Over examples: for new rows and this one run (percentile bootstrap); it says nothing of other seeds."
    cell = scores[0].arm
    seeds = ", ".join(map(str, cell.by_seed))
    if len(cell.by_seed) == 1:
        yield "One seed: how much the score varies from seed to seed is unknown."
        return
    provisional = f"; fewer than {LEAST_SEEDS}, so provisional" if len(cell.by_seed) < LEAST_SEEDS else ""
    yield f"Over seeds {seeds} of the same settings and rows: for new seeds (Student's t){provisional}."
    if cell.collapsed:
        yield f"Collapsed, so no better than a constant prediction: seeds {', '.join(map(str, cell.collapsed))}."


def _range(interval: Interval, times: float) -> str:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return "–"
    return f"{_number(interval.low, times)} to {_number(interval.high, times)}"


def _number(value: float | None, times: float) -> str:
    return "–" if value is None or math.isnan(value) else f"{value * times:.2f}"


def _budget(record: Record) -> Iterator[str]:
    parts = [name for name in record.parameters if name not in SUMS] + [
        name for name in SUMS if name in record.parameters
    ]
    rows = [[escaped(name), f"{record.parameters[name]:,}"] for name in parts]
    yield table(["parameters", "number"], rows, [False, True])
    for name, layers in (("Experts", record.experts_per_layer), ("Ranks", record.rank_per_layer)):
        if layers is not None:
            yield f"{name} in each layer, the first one first: {' '.join(map(str, layers))} (total {sum(layers)})."
    flops = record.flops_per_token
    if flops.get("base") and flops.get("active"):
        yield (
            f"FLOPs of a token's forward pass: {flops['active']:,.0f}, {flops['active'] / flops['base']:.3f} times "
            "those of the base model alone."
        )


def _training(content: Content) -> str:
    experiment, training = content.experiment, content.record.training
    method = experiment.method
    facts = {
        "method": f"{escaped(method.name)}{', as the published code has it' if method.published else ''}",
        "paper": ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", method.paper()),
        "preset": escaped(experiment.preset or ""),
        "steps": f"{training['steps']:,}" if "steps" in training else "",
        "effective batch": str(training.get("effective_batch", "")),
        "learning rate": f"{training.get('learning_rate', experiment.learning_rate):g}",
        "number format": f"{experiment.hardware.precision.name}, base in {experiment.hardware.base.name}",
        "longest input": f"{experiment.train.max_length} tokens",
    }
    return table(["training", "value"], [[name, value] for name, value in facts.items() if value], [False, False])


def _data(record: Record) -> str:
    rows = [[escaped(split), *_split(about)] for split, about in record.data.items()]
    rows += [[f"base model, {escaped(name)}", "", "", escaped(str(value))] for name, value in record.base.items()]
    model = record.settings["model"]
    if model.get("hub"):
        rows.append(["base model", escaped(model["hub"]), "", escaped(model.get("revision") or "main")])
    return table(["what", "source", "rows", "fingerprint or revision"], rows, [False, False, True, False])


def _split(about: Mapping[str, Any]) -> list[str]:
    used = f"{about['rows_used']:,}" if "rows_used" in about else ""
    known = [about.get("fingerprint", ""), f"commit {about['commit']}" if "commit" in about else ""]
    return [escaped(about.get("source", "")), used, escaped(" ".join(filter(None, known)))]
