"""The files that every try begins with, made by molex itself, and the commands that read them."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from fuzz.runner import Molex, Place, copied

ROWS = (
    "task=files",
    "task.columns=[a,b]",
    "task.files.train=train.csv",
    "task.files.validation=dev.csv",
    "hardware.threads=1",
    "train.batch_size=4",
    "train.max_length=32",
)
SMALL = ("experiment=smoke", "train.max_steps=2", *ROWS)
LONGER = ("experiment=smoke", "train.max_steps=6", "train.evaluate_every=2", *ROWS, "method=mola", "seed=7")
SWEEP = ("train", "-m", *SMALL, "method=lora", "seed=0,1", "isolate=false")
NOT_FINITE = ("method=lora", "seed=3", "train.learning_rate=1e30", "train.max_grad_norm=null", "train.max_steps=4")
FOLDER = (*SMALL, "model=folder", "model.folder=merged", "method=bitfit")
OWN = {
    "mine/task/own.yaml": """\
# @package task
defaults: [/schema/task@_here_, _self_]
name: own
columns: [a, b]
label: label
files: {train: train.csv, validation: dev.csv}
metrics: [accuracy, f1]
""",
    "mine/experiment/own.yaml": """\
# @package _global_
defaults: [override /model: tiny_bert, override /hardware: cpu, override /method: lora, override /task: own, _self_]
train: {max_steps: 2, batch_size: 4, max_length: 32, learning_rate: 1.0e-3}
method: {rank: 4, targets: [query, value]}
log: {wandb: disabled, tags: [one, two]}
""",
    "claims.yaml": """\
- mola > lora on files tiny_bert
- {claim: lora > bitfit on files tiny_bert, seeds: [0, 1], alpha: 0.05}
""",
    "targets.yaml": """\
paper: P
version: v
table: T
selection: the last epoch
columns: {rte: {preset: papers/mola/rte, metric: accuracy, rows: {train: 24, validation: 10}}}
arms: {MoLA: [method=mola], LoRA: [method=lora, method.rank=64]}
numbers: {MoLA: {rte: 50.0}, LoRA: {rte: null}}
intervals: {MoLA: {rte: [49, 51]}}
spread: {seeds: 3, z: 1.96}
open: {train.epochs: [10, 20]}
""",
    "rows.jsonl": '{"a": "x1", "b": "y 2"}\n{"a": "x é", "b": ""}\n',
    "rows.tsv": "a\tb\nx1\ty1\nx2\ty 2\n",
}


@dataclass(frozen=True)
class Command:
    """A command on the files, which it reads, which it may write, and the arms that its table must show."""

    name: str
    arguments: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...] = ()
    compares: bool = False
    resumes: bool = False
    environment: tuple[tuple[str, str], ...] = ()

    def may_write(self, path: str) -> bool:
        """Return whether a file of a place, by its name there, is this command's to change."""
        return any(fnmatch(path, f"work/{pattern}") for pattern in self.writes)


def interrupt() -> None:
    """Let a run of this process end as by Ctrl-C after its fifth step."""
    from molex_cli.tracking import jsonl
    from molex_cli.tracking.events import Step

    write = jsonl.Jsonl.write

    def interrupted(self: jsonl.Jsonl, event: object) -> None:
        write(self, event)  # type: ignore[arg-type]
        if isinstance(event, Step) and event.step == 5:
            raise KeyboardInterrupt

    jsonl.Jsonl.write = interrupted  # type: ignore[method-assign,assignment]


def build(molex: Molex, folder: Path) -> Place:
    """Make the template at `folder`/template; the same path, `folder`/here, holds it here and in every try."""
    place = Place(folder / "here").made()
    _write_rows(place.work)
    for arguments in _makers():
        _must(molex, place, arguments)
    _must(molex, place, ("train", *LONGER), before="fuzz.workspace:interrupt", code=130)
    _must(molex, place, ("train", *SMALL, *NOT_FINITE), code=2)
    lora = run_of(place.work, "lora", 0)
    for arguments in (
        ("eval", f"run={lora}"),
        ("probe", f"run={lora}"),
        ("export", lora, "--output", "peft"),
        ("merge", lora, "--output", "merged"),
        ("import", "peft", "model=tiny_bert", *ROWS[:4], "--output", "imported"),
    ):
        _must(molex, place, arguments)
    shutil.move(place.folder, folder / "template")
    return Place(folder / "template")


def _makers() -> Iterator[tuple[str, ...]]:
    yield ("train", *SMALL, "method=mola", "seed=0", "log.wandb=offline", "preset=papers/mola/rte")
    yield ("train", *SMALL, "method=bitfit", "seed=0")
    yield ("train", *SMALL, "method=molex", "seed=0")
    yield SWEEP


def _must(molex: Molex, place: Place, arguments: Sequence[str], before: str = "", code: int = 0) -> None:
    ended = molex.run(place, arguments, before=before, seconds=120)
    if ended.code != code:
        raise RuntimeError(f"molex {' '.join(arguments)} ended with {ended.code}, not {code}\n{ended.out}{ended.err}")


def _write_rows(work: Path) -> None:
    for name, count in (("train.csv", 24), ("dev.csv", 10)):
        rows = (f"x{i},y {i} é,{'yes' if i % 2 else 'no'}\n" for i in range(count))
        (work / name).write_text("a,b,label\n" + "".join(rows), encoding="utf-8")
    for name, content in OWN.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def run_of(work: Path, method: str, seed: int) -> str:
    """Return the folder of a run, from the working directory."""
    (found,) = work.glob(f"outputs/files-{method}-*-s{seed}")
    return str(found.relative_to(work))


def resumed(molex: Molex, template: Place, folder: Path) -> Place:
    """Return a place in which the interrupted run has been resumed undisturbed: what every resumption must give."""
    place = copied(template, folder)
    _must(molex, place, ("train", *LONGER))
    return place


def commands(work: Path) -> list[Command]:
    """Return all commands on the files of a working directory."""
    return [*_tables(work), *_on_saved_runs(work), *_trainings(work)]


def _tables(work: Path) -> Iterator[Command]:
    mola, lora, bitfit = (run_of(work, method, 0) for method in ("mola", "lora", "bitfit"))
    every = ("outputs/*", "outputs/*", "outputs/*record.json", "outputs/index*")  # a record is the likelier to be hit
    index = ("outputs/index*", "outputs/.index*")
    html = (*index, "page.html")
    for name in ("table", "md", "csv", "json", "latex"):
        yield Command(f"compare {name}", ("compare", "outputs", "--format", name), every, index, compares=True)
    yield Command("compare html", ("compare", "outputs", "--html", "page.html"), every, html, compares=True)
    yield Command("compare claims", ("compare", "outputs", "--claims", "claims.yaml"), ("claims.yaml", *every), index)
    beside = ("compare", "outputs", "--targets", "targets.yaml")
    yield Command("compare targets", beside, ("targets.yaml", *every), index)
    by = ("--rows", "method,train.learning_rate,seed", "--cols", "task", "--which", "best", "--adjust", "bh")
    yield Command("compare by", ("compare", "outputs", *by), every, index)
    yield Command("compare against", ("compare", "outputs", "--against", "lora"), every, index)
    runs = tuple(f"{run}/*" for run in (mola, lora, bitfit))
    yield Command("compare runs", ("compare", mola, f"{lora}/record.json", bitfit), runs)
    yield Command("diff", ("diff", mola, lora), (f"{mola}/record.json", f"{lora}/record.json"))
    yield Command("experts", ("experts", mola, "--json"), (f"{mola}/record.json", f"{mola}/adapter-last*"))
    yield Command("experts plots", ("experts", mola, "--plots", "pics"), (f"{mola}/record.json",), ("pics*",))
    yield Command("sync", ("sync", "--dry-run"), ("outputs/*/wandb/*",))
    yield Command("list", ("list", "methods"), ())
    asked = (("COMP_LINE", "molex train -cd mine task="), ("COMP_POINT", "26"))
    yield Command("completion", ("-sc", "query=bash"), ("mine/*",), environment=asked)


def _on_saved_runs(work: Path) -> Iterator[Command]:
    mola, lora, bitfit = (run_of(work, method, 0) for method in ("mola", "lora", "bitfit"))
    files = ("dev.csv",)

    def parts(run: str, which: str = "last") -> tuple[str, ...]:
        return (f"{run}/adapter-{which}*", f"{run}/adapter-{which}*", f"{run}/record.json")

    for run in (lora, mola, "imported"):
        name = f"eval {Path(run).name.split('-')[1] if '-' in run else run}"
        reads = (*parts(run), *files, f"{run}/evaluations/*", "../cache/*")
        yield Command(name, ("eval", f"run={run}", "--json"), reads, (f"{run}/evaluations*",))
    reads = (*parts(bitfit), "train.csv", "dev.csv", f"{bitfit}/probes/*")
    yield Command("probe", ("probe", f"run={bitfit}"), reads, (f"{bitfit}/probes*",))
    for name in ("rows.jsonl", "rows.tsv", "dev.csv"):
        yield Command(f"predict {name}", ("predict", f"run={mola}", "which=best", "--file", name), (name, name))
    yield Command("predict", ("predict", f"run={lora}", "--file", "rows.tsv"), parts(lora))
    yield Command("export", ("export", lora, "--output", "new"), parts(lora), ("new*",))
    yield Command("merge", ("merge", lora, "--output", "new"), parts(lora), ("new*",))
    theirs = ("import", "peft", "model=tiny_bert", *ROWS[:4], "--output", "new")
    yield Command("import", theirs, ("peft/*",), ("new*",))


def _trainings(work: Path) -> Iterator[Command]:
    stopped, outputs, rows = run_of(work, "mola", 7), ("outputs*",), ("train.csv", "dev.csv", "../cache/*")
    state = (f"{stopped}/*", f"{stopped}/progress*", f"{stopped}/progress*", "outputs/index*", "../cache/*")
    yield Command("resume", ("train", *LONGER), state, outputs, resumes=True)
    again = ("train", *SMALL, "method=mola", "seed=0")
    yield Command("train again", again, (f"{run_of(work, 'mola', 0)}/*", "outputs/index*"), outputs)
    yield Command("sweep again", SWEEP, (f"{run_of(work, 'lora', 1)}/*", "outputs/sweeps/*", "outputs/index*"), outputs)
    yield Command("train", ("train", *SMALL, "method=bitfit", "seed=5"), rows, outputs)
    yield Command("train folder", ("train", *FOLDER), ("merged/*",), outputs)
    yield Command("plan folder", ("plan", *FOLDER), ("merged/*",))
    yield Command("train own", ("train", "-cd", "mine", "experiment=own"), ("mine/*",), outputs)
    yield Command("show own", ("train", "-cd", "mine", "experiment=own", "--cfg", "job"), ("mine/*",), outputs)
