"""What `molex_cli` offers to Python: names that stay, types that a checker finds, nothing heavy before it is used."""

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from support.made_records import outputs

import molex_cli

HEAVY = ("torch", "transformers", "accelerate", "datasets", "pandas", "matplotlib", "wandb", "hydra", "numpy", "rich")
FUNCTIONS = ("compare_runs", "load", "plan", "read_records", "train")
MISTAKES = {
    "train('train.epoch=1')": "train.epoch is no setting; did you mean train.epochs?",
    "train('method=lora', '-m')": "train must get the settings of one run, got -m; call it once for each",
    "train('--help')": "train must get the settings of one run, got --help",
    "train(dict(seed=1))": "settings must be texts such as 'seed=1', got {'seed': 1}",
    "train('seed=0,1')": "seed must be one value, got 0,1",
    "train(match='lora:rank=64', solve='size')": "--solve must be one of rank, total, mean, got size",
    "plan('method.allocation.total=3')": "method.allocation must spend between 6 and",
    "plan(fit='24 apples')": "fit must be a size above 0 such as 24GB",
    "load('nowhere')": "nowhere does not exist; name the folder of a run",
    "load('nowhere', which='first')": "which must be last or best, got first",
    "load('hub:name')": "a run on the hub must be named hub:USER/NAME",
    "compare_runs(['hub:name'])": "a run on the hub must be named hub:USER/NAME",
    "compare_runs('.', show='mode')": "--show must be one of median, trained, got mode",
    "compare_runs('nowhere')": "nowhere does not exist",
    "compare_runs('.', which='lsat')": "--which must be one of last, best, got lsat",
    "compare_runs('.', adjust='bonferroni')": "--adjust must be one of holm, bh, got bonferroni",
    "compare_runs('.', tune='seed')": "--tune must go with --tuning-seeds, got --tune alone",
    "compare_runs('.')": "paths must hold finished runs, got none in .",
    "read_records('.')": "holds no runs",
}


def python(code: str) -> str:
    """Return what a process of Python prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_import_brings_nothing_heavy():
    assert python(f"import sys, molex_cli; print([name for name in {HEAVY} if name in sys.modules])") == "[]"


def test_mistakes_are_exceptions_with_the_line_of_the_command_before_torch_is_imported():
    code = (
        f"import sys\nfrom molex_cli import *\nfor call in {list(MISTAKES)}:\n"
        "    try: eval(call)\n    except MolexError as error: print(str(error).replace(chr(10), ' '))\n"
        "print('torch' in sys.modules)"
    )
    *said, torch = python(code).splitlines()
    for call, expected, line in zip(MISTAKES, MISTAKES.values(), said, strict=True):
        assert expected in line, call
    assert torch == "False"


def test_tables_of_records_and_comparisons_need_no_torch():
    outputs(lora=0.6, mola=0.7)
    code = "frame = compare_runs('outputs').frame; frames = len(frame), len(read_records('outputs'))"
    assert (
        python(f"import sys\nfrom molex_cli import *\n{code}; print(frames, 'torch' in sys.modules)") == "(2, 6) False"
    )


def test_no_name_is_that_of_a_folder_or_file_which_would_take_its_place():
    assert not set(molex_cli.__all__) & {module.name for module in pkgutil.iter_modules(molex_cli.__path__)}


def test_the_names_stay_functions_once_everything_was_imported():
    for module in pkgutil.iter_modules(molex_cli.__path__):
        if not module.name.startswith("_"):
            import_module(f"molex_cli.{module.name}")
    assert [name for name in FUNCTIONS if not callable(getattr(molex_cli, name))] == []


def test_a_checker_of_types_finds_every_name_and_what_it_is_imported_from():
    tree = ast.parse(Path(molex_cli.__file__).read_text(encoding="utf-8"))
    block, hidden = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(hidden.test) == "not TYPE_CHECKING"  # where an unknown name would be any
    stated = {name.name: node.module for node in block.body for name in node.names}
    assert stated == {name: f"molex_cli.{module}" for name, module in molex_cli._MODULES.items()}
    assert sorted(stated) == sorted(molex_cli.__all__)
    assert set(molex_cli.__all__) <= set(dir(molex_cli))
    assert Path(molex_cli.__file__).with_name("py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module molex_cli has no attribute lod"):
        _ = molex_cli.lod
