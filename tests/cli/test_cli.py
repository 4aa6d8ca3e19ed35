"""The command line: what it prints, what it imports, where it works."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from molex_cli.cli import main
from molex_cli.cli.registry import commands


def fresh(code: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {command} " in shown for command in commands())


def test_help_imports_neither_hydra_nor_torch(tmp_path):
    done = fresh(
        "import sys; from molex_cli.cli import main; main(['--help']); "
        "assert not {'torch', 'hydra', 'transformers', 'rich'} & set(sys.modules)",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flags", [["--cfg", "job"], ["--help"], ["--info", "searchpath"]], ids=" ".join)
def test_looking_at_the_settings_imports_no_torch(tmp_path, flags):
    done = fresh(
        f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); "
        f"from molex_cli.cli import main; main(['train', *{flags}])",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"


def test_a_config_folder_of_the_users_adds_choices(tmp_path):
    (tmp_path / "my" / "method").mkdir(parents=True)
    (tmp_path / "my" / "method" / "mola_mine.yaml").write_text(
        "defaults: [/schema/method/mola@_here_, _self_]\nname: mola_mine\nallocation: {layers: [2, 3, 3, 4]}\n"
    )
    arguments = ["train", "-cd", "my", "experiment=smoke", "method=mola_mine", "train.max_steps=1"]
    assert main(arguments) == 0
    (path,) = Path("outputs").glob("*/record.json")
    assert json.loads(path.read_text())["experts_per_layer"] == [2, 3, 3, 4]


def test_flags_may_stand_anywhere():
    arguments = ["experiment=smoke", "method=head", "-m", "seed=0,1", "train.max_steps=1"]
    assert main(["train", *arguments]) == 0
    assert len(list(Path("outputs").glob("*/record.json"))) == 2


def test_the_module_runs_as_the_command_does(tmp_path):
    command = [sys.executable, "-m", "molex_cli", "--version"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.startswith("molex ")


def test_plan_takes_json(capsys):
    assert main(["plan", "--json", "model=tiny_bert"]) == 0
    assert json.loads(capsys.readouterr().out)["experts_per_layer"] == [2, 4, 6, 8]


def test_bench_gives_ratios_to_the_floor_peft_and_the_loop(capsys):
    pytest.importorskip("peft")
    arguments = ["model=tiny_bert", "--rounds", "2", "--rows", "2", "--tokens", "8", "--json", "--no-memory"]
    assert main(["bench", *arguments, "--dropout", "0.05", "0"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert [table["dropout"] for table in tables] == [0.05, 0]
    for table in tables:
        assert [arm["name"] for arm in table["arms"]] == ["bitfit (floor)", "peft lora", "mola_inverted", "loop"]
        assert table["load"]["cores"] >= 1
        assert None not in table["load"].values()
        for arm in table["arms"]:
            low, high = arm["middle_half_milliseconds"]
            assert low <= arm["milliseconds"] <= high
            assert set(arm["time_ratio"]) == {"bitfit (floor)", "peft lora", "loop"}
            assert arm["time_ratio"][arm["name"]] == 1.0 if arm["name"] in arm["time_ratio"] else True


def test_bench_holds_molex_against_its_inner_method_and_against_choosing_itself(capsys):
    arguments = ["model=tiny_bert", "method=molex", "--rounds", "2", "--rows", "4", "--tokens", "8", "--json"]
    assert main(["bench", *arguments, "--no-memory", "--dropout", "0"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    names = [arm["name"] for arm in table["arms"] if arm["name"] != "peft lora"]
    assert names == ["bitfit (floor)", "inner of molex", "molex", "molex (all choose self)"]
    ratios = {arm["name"]: arm["time_ratio"]["inner of molex"] for arm in table["arms"]}
    assert ratios["inner of molex"] == 1.0
    assert ratios["molex"] > 0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_bench_measures_memory_in_a_process_for_each_arm(capsys):
    arguments = ["model=tiny_bert", "method=lora", "--rounds", "1", "--rows", "2", "--tokens", "8", "--json"]
    assert main(["bench", *arguments]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert all(arm["memory_bytes"] > 0 for arm in table["arms"])


@pytest.mark.slow
def test_an_installed_wheel_works_from_any_directory(tmp_path):
    """The wheel carries conf/; the packages it needs are taken from this environment."""
    root = Path(__file__).resolve().parents[2]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(root)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", "import molex_cli; print(molex_cli.__file__)"]
    elsewhere = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": True}
    assert str(tmp_path / "site") in subprocess.run(command, **elsewhere).stdout
    train = [sys.executable, "-m", "molex_cli", "train", "experiment=smoke", "method=lora"]
    assert "finished" in subprocess.run(train, **elsewhere).stdout
