"""What a run of a test left, runs that were interrupted, and stages to learn."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors import safe_open

from molex_cli.run import run
from molex_cli.tracking.events import Step


@contextmanager
def working_in(folder):
    """Work in a folder, with a cache of its own: for runs that several tests share."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("MOLEX_CACHE", str(folder / "cache"))
        yield patched


def only_record(folder="outputs") -> tuple[dict, object]:
    (path,) = Path(folder).glob("*/record.json")
    return json.loads(path.read_text()), path.parent


SMOKE = [
    "experiment=smoke",
    "train.max_steps=null",
    "train.epochs=2",
    "train.batch_size=2",
    "train.gradient_accumulation_steps=3",
]


def outcome(folder):
    """Return the losses of every step and evaluation, the predictions, and the tensors of the adapters."""
    (path,) = folder.glob("outputs/*/record.json")
    events = [json.loads(line) for line in (path.parent / "events.jsonl").read_text().splitlines()]
    told = [
        (e["event"], e["step"], e["loss"], e.get("routing"), e.get("training_routing"))
        for e in events
        if e["event"] in ("step", "evaluated")
    ]
    files = [(path.parent / f"predictions-{which}.jsonl").read_text() for which in ("last", "best")]
    tensors = []
    for which in ("last", "best"):
        with safe_open(path.parent / f"adapter-{which}.safetensors", framework="pt") as file:
            tensors.append({name: file.get_tensor(name).tolist() for name in file.keys()})  # noqa: SIM118
    record = json.loads(path.read_text())
    training = {name: record["training"][name] for name in ("steps", "tokens", "first_loss", "mean_loss", "last_loss")}
    return told, files, tensors, training, record["scores"], record["checks"], record["routing"]


class StopAt:
    """A sink that stands for a Ctrl-C after some event."""

    def __init__(self, kind, step):
        self.kind, self.step = kind, step

    def write(self, event):
        if isinstance(event, self.kind) and event.step == self.step:
            raise KeyboardInterrupt

    def close(self):
        """Do nothing."""


def interrupted(experiment, *settings, at=4, kind=Step):
    """Return the experiment after a try that was interrupted."""
    made = experiment(*settings)
    with pytest.raises(KeyboardInterrupt):
        run(made, extra_sinks=(StopAt(kind, at),))
    return experiment(*settings)


YAML = """# @package _global_
defaults:
  - /task/files@task
{defaults}
  - _self_
task: {{name: two, columns: [a, b], files: {{train: one.csv, validation: one.csv}}}}
stages:
{stages}
"""


def sequence(*names, labels=("no yes", "no yes")):
    """Write a sequence of stages and its files as a user would, and return the command that learns it."""
    for name, words in zip(("one", "two"), labels, strict=True):
        no, yes = words.split()
        lines = "".join(f"{name} {i},text {i},{yes if i % 2 else no}\n" for i in range(8))
        Path(f"{name}.csv").write_text("a,b,label\n" + lines)
    files = {name: f"{{columns: [a, b], files: {{train: {name}.csv, validation: {name}.csv}}}}" for name in names}
    defaults = "\n".join(f"  - /task/files@stages.{name}" for name in names)
    stages = "\n".join(f"  {name}: {content}" for name, content in files.items())
    Path("mine/task").mkdir(parents=True)
    Path("mine/task/two.yaml").write_text(YAML.format(defaults=defaults, stages=stages))
    return ["train", "-cd", "mine", "experiment=smoke", "method=lora", "train.learning_rate=0.02", "task=two"]
