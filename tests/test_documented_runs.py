"""Every command that the documentation prints is run: on tiny models, a few made-up rows and two steps of training."""

import re
import shlex
import shutil
import traceback
from glob import glob

import pytest
from support.official_files import write_official
from support.runs import working_in
from test_documented_commands import PAGES, ROOT, RUN_AS_PRINTED, printed

from molex_cli.cli import main
from molex_cli.config import command_line, overrides

TUTORIAL = "tutorial.md"  # tests/test_tutorial.py runs it
SLOW = {f"docs/{name}.md" for name in ("compare", "exchange", "performance", "results", "sweeps")}
ELSEWHERE = {
    r"hardware=slurm": "needs a cluster; tests/launching/test_slurm.py has one",
    r"hardware=(ddp|fsdp)": "starts processes; tests/launching/test_torchrun.py does",
    r"^molex bench.*hardware=gpu": "needs a GPU; tests/cost/test_gpu_bench.py has what needs none",
    r"hydra/sweeper=optuna": "a search; tests/launching/test_sweeper.py has one",
    r"^molex wandb-view outputs/ *(#|$)": "needs W&B's server; tests/tracking has one",
    r"^molex push|model\.hub=|\.revision=": "needs a hub; tests that speak to tests/support/hub have one",
    r"docs/studies/": "half an hour each; tests/study/test_documented_studies.py composes them",
    r"evaluate/f1": "needs the hub; tests/metrics/test_evaluate_library.py has scripts of its own",
    r"lm_eval|arc_challenge|text=|wiki\.txt": "needs a decoder and tasks of others; tests/evaluators has both",
}
"""What is not run here, and why."""
FIRST = {"train": ["model=tiny_bert"], "allocate": ["model=tiny_bert"], "bench": ["model=tiny_bert"]}
"""What comes before the printed settings: these win."""
SHORT = (
    "train.max_steps=2 train.max_rows=16 train.batch_size=8 train.eval_batch_size=8 train.max_length=64 hardware=cpu "
    "train.gradient_accumulation_steps=1"
)
LAST = {
    "train": [*SHORT.split(), "log.wandb=disabled", "data_dir=data"],
    "study": ["hardware=cpu", "data_dir=data"],
    **{name: ["data_dir=data"] for name in ("allocate", "eval", "import", "probe")},
}
"""What comes after them, and wins."""
SMALLER = {
    r"\bmodel=(minilm|roberta_base)\b": "model=tiny_bert",
    r"\bmodel=smollm2_135m\b": "model=tiny_llama",
    r"^(?=.*(?:bench|--fit|--memory))(.*)model=llama2_7b": r"\1model=tiny_llama",
    r"\bseed=(\d+)(,\d+)+": r"seed=\1",
    r"range\(0,10\)": "range(0,1)",
    r"=5e-4,1e-3,2e-3": "=5e-4,1e-3",
    r"selection=15": "selection=4",
    r"--dry-run DIR": "--dry-run data",
    r"--output outputs/theirs": "--output imported",
    r"outputs/(?= --tune|.*method\.rank)": "tuned/",
    r" hardware=pool\b": "",
    r" 'hardware\.devices=[^']*'": "",
    r" --rounds \d+": "",
    r"^molex bench(?!.*--operations)": "molex bench --rounds 2",
    r"^molex bench(?!.*--(operations|inference))": "molex bench --no-memory",
    r"(experiment=ablation/\S+)": r"\1 method=mola_inverted,mola_random method.router=learned,fixed seed=0",
    r"(train .*experiment=papers/\S+)": r"\1 model=tiny_llama",
}
ROWS = [
    "task=files", "task.name=pairs", "task.columns=[question,answer]", "task.label=label", "task.files.train=all.csv",
    "task.files.split=[0.6,0.2,0.2]",
]  # fmt: skip
STUDY = {
    "model=minilm": "model=tiny_bert",
    "max_rows=3000": "max_rows=16",
    "max_steps=80": "max_steps=2",
    "[1e-3, 1e-2]": "[1e-3]",
    "most: 8": "most: 3",
}
READS_RUNS = re.compile(r"^molex (?!train|study|plan|bench).*(\boutputs\b|\btheirs\b)")


def why_not(line):
    """Return why a command is not run here; None if it is."""
    return next((why for pattern, why in ELSEWHERE.items() if re.search(pattern, line)), None)


def smaller(line):
    """Return a command's arguments, with a tiny model, few rows and few steps."""
    for pattern, fewer in SMALLER.items():
        line = re.sub(pattern, fewer, line)
    _, command, *others = shlex.split(line, comments=True)
    if {"--help", "--cfg"} & {*others}:
        return [command, *others]
    isolated = ["isolate=false"] if command == "train" and "-m" in others else []
    return [command, *FIRST.get(command, []), *others, *LAST.get(command, []), *isolated]


def by_page():
    """Return the commands to run by page, those left out that another page has too."""
    found, seen = {}, set()
    for page in PAGES:
        lines = [line for line in printed(page) if page.name not in (RUN_AS_PRINTED, TUTORIAL) and not why_not(line)]
        found[str(page.relative_to(ROOT))] = {
            line: args for line in lines if (args := tuple(smaller(line))) not in seen
        }
        seen.update(found[str(page.relative_to(ROOT))].values())
    return {page: list(lines) for page, lines in found.items() if lines}


ALL = by_page()


def failure(line, capfd):
    """Run a command; return what it printed if it failed."""
    try:
        code = main(smaller(line))
    except SystemExit as ended:
        code = ended.code
    except Exception:
        code = traceback.format_exc()
    shown = "".join(capfd.readouterr()) + (code if isinstance(code, str) else "")
    return f"{line}\n{shown[-1500:]}" if code else ""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with the files that the pages name: rows, a study, claims, published numbers."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "docs").mkdir()
    for task in ("glue/rte", "glue/sst2", "glue/cola", "glue/mrpc", "instruct/rte", "e2e"):
        model = "tiny_llama" if task in ("instruct/rte", "e2e") else "tiny_bert"
        write_official(overrides.checked(command_line.CommandLine([f"task={task}", f"model={model}"])), folder / "data")
    labels = ("entailment", "not_entailment")
    rows = [f"question {i},answer {i},{labels[i % 2]},text {i},{labels[i % 2]}\n" for i in range(60)]
    for name in ("train.csv", "dev.csv", "all.csv", "new.csv"):
        (folder / name).write_text("".join(["question,answer,label,text,kind\n", *rows]))
    claims = block("compare.md", "# claims.yaml").replace("glue/rte minilm", "pairs tiny_bert")
    (folder / "claims.yaml").write_text(claims.replace("mola_triangle", "head"))
    (folder / "mine.yaml").write_text(block("papers.md", "paper: MoLEx"))
    study = block("study.md", "base: [model=minilm, task=glue/sst2, train.max_rows")
    for theirs, ours in STUDY.items():
        assert theirs in study
        study = study.replace(theirs, ours)
    (folder / "study.yaml").write_text(study)
    return folder


def block(page, start):
    """Return the code block of a page that begins so."""
    return re.search(rf"^```yaml\n({re.escape(start)}.*?)^```", (ROOT / "docs" / page).read_text(), re.M | re.S)[1]


@pytest.fixture(scope="module")
def runs(files, tmp_path_factory):
    """Return a folder with runs of three arms in outputs/, and with the trials of one in tuned/."""
    folder = tmp_path_factory.mktemp("runs") / "work"
    shutil.copytree(files, folder)
    sweep = ["train", "-m", "model=tiny_bert", *ROWS, *LAST["train"], "isolate=false"]
    with working_in(folder):
        assert main([*sweep, "method=lora,mola_inverted,head", "seed=0,1,2"]) == 0
        rates = "train.learning_rate=5e-4,1e-3"
        assert main([*sweep, "method=lora", rates, "seed=0,1000,1001", "train.selection=0.2", "output_dir=tuned"]) == 0
    return folder


@pytest.mark.parametrize("page", [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else []) for page in ALL])
def test_commands_of_a_page_run(page, files, monkeypatch, tmp_path, capfd):
    shutil.copytree(files, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    lines = [line for line in ALL[page] if not READS_RUNS.search(line)]
    failed = list(filter(None, (failure(line, capfd) for line in lines)))
    assert not failed, "\n\n".join(failed)


def test_commands_that_read_runs_run(runs, monkeypatch, capfd):
    monkeypatch.chdir(runs)
    (lora,) = glob("outputs/pairs-lora-*-s0")
    (other,) = glob("outputs/pairs-lora-*-s1")
    (mola,) = glob("outputs/pairs-mola_inverted-*-s0")
    (sweep, *_) = sorted(glob("outputs/sweeps/*"))
    lines = [line for page in ALL for line in ALL[page] if READS_RUNS.search(line)]
    lines.sort(key=lambda line: not line.startswith("molex eval"))  # whose scores others read
    named = {
        r"outputs/sweeps/\S+": sweep,
        r"outputs/(NAME|ONE)\b": lora,
        r"outputs/RUN\b": mola,
        r"outputs/OTHER\b": other,
    }
    failed = []
    for number, line in enumerate(lines):
        line = line.replace("--output DIR", f"--output DIR{number}")
        for name, folder in named.items():
            line = re.sub(name, folder, line)
        failed.append(failure(line, capfd))
    assert not any(failed), "\n\n".join(filter(None, failed))
