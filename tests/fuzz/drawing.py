"""How hypothesis draws a try."""

import json
from collections.abc import Sequence

from hypothesis import strategies as st

from fuzz.damages import FAMILIES, kinds
from fuzz.texts import ENVIRONMENT, HOSTILE, PATHS, RAW, SETTINGS
from fuzz.tries import Try, Workspace
from fuzz.workspace import ROWS, SMALL, run_of

GROUPS = ("model", "method", "task", "hardware", "experiment")
HYDRA = (
    "hydra/launcher", "hydra/sweeper", "hydra.searchpath", "hydra.launcher.n_jobs", "hydra.sweeper.params",
    "hydra.run.dir", "hydra.job.chdir", "stages", "stages.one", "stages.one.name", "nope", "train.nope", "+nope",
    "++train.nope", "~seed", "~task",
)  # fmt: skip
FLAGS = {
    "compare": ("--rows", "--cols", "--which", "--against", "--adjust", "--format", "--claims", "--html", "--output"),
    "diff": ("--nope",),
    "experts": ("--which", "--plots", "--data-dir", "--max-rows", "--ablate"),
    "export": ("--format", "--which", "--output"),
    "merge": ("--which", "--output"),
    "import": ("--output",),
    "predict": ("--file",),
    "plan": ("--match", "--solve", "--by"),
    "sync": ("--timeout", "--nope"),
    "train": (
        "-cd", "-cp", "-cn", "--cfg", "--info", "--package", "-m", "--help", "--hydra-help", "--experimental-rerun",
    ),
    "list": ("--nope",),
    "bench": ("--rows", "--tokens", "--rounds", "--dropout", "--methods", "--experts", "--plot"),
}  # fmt: skip


ANYWHERE = ("train", "compare table", "compare html", "eval lora", "list", "resume", "completion")


@st.composite
def tries(draw: st.DrawFn, space: Workspace) -> Try:
    """Draw a try: half of them have a damaged file."""
    kinds_of_try = (*[_damaged] * 6, *[_settings] * 3, *[_flags] * 2, _environments)
    return draw(kinds_of_try[draw(st.integers(0, len(kinds_of_try) - 1))](space))


@st.composite
def _damaged(draw: st.DrawFn, space: Workspace) -> Try:
    command = draw(st.sampled_from([each for each in space.commands.values() if space.files[each.name]]))
    file = draw(st.sampled_from(space.files[command.name]))
    kind = draw(st.sampled_from(kinds(space.template.work / file)))
    texts = [f"text {name}" for name in HOSTILE]
    values = st.sampled_from((*RAW, *texts)) if draw(st.integers(0, 4)) else st.text().map(json.dumps)
    value = draw(values) if kind in FAMILIES else ""
    return Try(command.name, (), file, kind, draw(st.integers(0, 2**31)), value)


@st.composite
def _settings(draw: st.DrawFn, space: Workspace) -> Try:
    value = draw(st.sampled_from(SETTINGS) if draw(st.integers(0, 4)) else st.text(_PRINTED, max_size=20))
    kind = draw(st.sampled_from(("train", "train", "sweep", "plan", "saved", "import")))
    if kind == "saved":
        return Try("", (*_saved(draw, space), f"{draw(st.sampled_from(_OWN))}={value}"))
    method = draw(st.sampled_from(sorted(space.settings)))
    key = draw(st.sampled_from((*space.settings[method], *GROUPS, *HYDRA)))
    if kind == "import":
        return Try("import", (f"{key}={value}",))
    command = ("train", "-m") if kind == "sweep" else (kind,)
    base = (*SMALL, f"method={method}", "isolate=false") if kind == "sweep" else (*SMALL, f"method={method}")
    return Try("", (*command, *base, f"{key}={value}"))


_PRINTED = st.characters(exclude_characters="\0", exclude_categories=("Cs",))
_OWN = (
    "run", "which", "split", "map", "map.yes", "noise", "characters", "words", "seed", "token", "task", "data_dir",
    "train.max_rows", "train.max_length", "train.eval_batch_size", "hardware", "hardware.device", "hardware.threads",
    "hardware.precision", "hardware.base", "method", "output_dir", "nope", "task.columns",
)  # fmt: skip


def _saved(draw: st.DrawFn, space: Workspace) -> tuple[str, ...]:
    run = run_of(space.template.work, draw(st.sampled_from(("lora", "mola", "bitfit"))), 0)
    command = draw(st.sampled_from(("eval", "probe", "predict")))
    return (command, f"run={run}", *(("--file", "rows.tsv") if command == "predict" else ()))


@st.composite
def _flags(draw: st.DrawFn, space: Workspace) -> Try:
    command = draw(st.sampled_from(sorted(FLAGS)))
    value = draw(st.sampled_from((*PATHS, *SETTINGS[:40])))
    run = run_of(space.template.work, draw(st.sampled_from(("lora", "mola"))), 0)
    trained = (*SMALL, "method=lora")
    usual: dict[str, Sequence[str]] = {
        **dict.fromkeys(("experts", "export", "merge"), (run,)),
        **dict.fromkeys(("train", "plan"), trained),
        "bench": (*trained, "--rounds", "1"),
        "compare": ("outputs",),
        "diff": (run, run),
        "import": ("peft", "model=tiny_bert", *ROWS[:4]),
        "list": ("methods",),
        "predict": (f"run={run}",),
        "sync": ("--dry-run",),
    }
    given = list(usual[command])
    if draw(st.booleans()) and command not in ("train", "plan", "bench"):
        given[0] = value
    else:
        given += [draw(st.sampled_from(FLAGS[command])), value]
    if command in ("export", "merge", "import") and "--output" not in given:
        given += ["--output", "new"]
    return Try("", (command, *given))


@st.composite
def _environments(draw: st.DrawFn, space: Workspace) -> Try:
    name = draw(st.sampled_from(sorted(ENVIRONMENT)))
    changed: dict[str, str | None] = {name: draw(st.sampled_from(ENVIRONMENT[name]))}
    if name.startswith("COMP"):
        return Try("completion", environment=changed)
    if name.startswith(("WANDB", "NETRC")):
        mode = draw(st.sampled_from(("offline", "online", "auto")))
        changed = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": None, **changed}
        return Try("", ("train", *SMALL, "method=bitfit", f"log.wandb={mode}", "log.timeout=2"), environment=changed)
    command = draw(st.sampled_from(ANYWHERE))
    return Try(command, environment=changed)
