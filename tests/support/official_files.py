"""A few rows of a task in the layout of its official files: words of our own, no copy of the data."""

import csv
import json
from pathlib import Path

from molex_cli.config.schema import Experiment
from molex_cli.config.task import Kind, Task

TOPICS = ("biology", "physics", "chemistry", "economics", "earth-science")
ROWS = 40  # eight of each topic


def write_official(experiment: Experiment, folder: Path) -> str:
    """Write the training and validation rows of an experiment's tasks; return the folder."""
    for task in experiment.stages.values() or [experiment.task]:
        for name in (task.official.train, task.official.validation):
            assert name is not None
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_jsonl(task, path) if path.suffix == ".jsonl" else write_table(task, path)
    return str(folder)


def write_jsonl(task: Task, path: Path) -> None:
    """Write questions with two choices, as each data set nests them."""
    lines = []
    for i in range(ROWS):
        texts, right = ["red", "blue"], i % 2
        if task.label == "answerKey":
            choices = [{"label": letter, "text": text} for letter, text in zip("AB", texts, strict=True)]
            row = {"id": i, "question": {"stem": f"Which colour {i}?", "choices": choices}, "answerKey": "AB"[right]}
        else:
            row = {"hint": "", "question": f"Which {i}?", "choices": texts, "answer": right}
        lines.append(json.dumps({**row, "topic": TOPICS[i % len(TOPICS)]}))
    path.write_text("\n".join(lines) + "\n")


def write_table(task: Task, path: Path) -> None:
    """Write texts with a label of each kind."""
    names = task.official.rename
    columns = task.official.header or [names.get(each, each) for each in (*task.columns, task.label)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t", lineterminator="\n")
        if task.official.header is None:
            writer.writerow(columns)
        for i in range(ROWS):
            own = names.get(task.label, task.label)
            writer.writerow([label(task, i) if each == own else f"{each} {i}" for each in columns])


def label(task: Task, i: int) -> str:
    if task.kind is Kind.regression:
        return f"{i % 5}"
    return task.labels[i % len(task.labels)] if task.labels else f"a text {i}"
