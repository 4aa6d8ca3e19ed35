"""Every preset of a paper: composed, counted on its real architecture, and run for a few steps on a tiny model."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from support.official_files import write_official

from molex_cli.cli import targets
from molex_cli.config import command_line, overrides
from molex_cli.config.schema import Experiment, as_data
from molex_cli.cost.planning import planned
from molex_cli.records import flat
from molex_cli.run import run

PRESETS = [name for name in command_line.options("experiment") if name.startswith("papers/")]
ONE_EACH = [*{preset.rpartition("/")[0]: preset for preset in PRESETS}.values(), "papers/mola/continual"]
TINY = {
    "roberta_base": "tiny_roberta",
    "roberta_large": "tiny_roberta",
    "gpt2_medium": "tiny_gpt2",
    "llama2_7b": "tiny_llama",
    "mistral_7b": "tiny_mistral",
    "gemma_7b": "tiny_gemma",
}
SHORT = (
    "train.max_steps=2", "train.epochs=1", "train.batch_size=2", "train.gradient_accumulation_steps=2",
    "train.max_rows=8", "train.eval_batch_size=2", "log.wandb=disabled", "hardware=cpu",
)  # fmt: skip
# Parameters that the papers' own counts, or arithmetic on them, give: adapters and routers of MoLA, LoRA of MoLEx.
COUNTS = {"llama2_7b": 105_635_840, "roberta_base": 294_912, "roberta_large": 786_432, "gpt2_medium": 393_216}


@cache
def made(preset: str, *more: str) -> Experiment:
    return overrides.checked(command_line.CommandLine(overrides=[f"experiment={preset}", *more]))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_composes_and_its_runs_know_it(preset: str) -> None:
    assert made(preset).preset == preset


@cache
def counted(preset: str) -> tuple[int, int]:
    found = planned(made(preset), made(preset).task.labels or []).parameters
    return found["adapters"], found["added"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_planned_on_its_real_architecture_without_weights(preset: str) -> None:
    whole = made(preset)
    model, method = whole.model.name, whole.method.name
    alike = (each for each in PRESETS if (made(each).model, made(each).method) == (whole.model, whole.method))
    adapters, added = counted(next(alike))
    assert 0 < adapters <= added
    if model in COUNTS:
        assert (added if method == "mola_paper" else adapters) == COUNTS[model]


def few_steps(preset: str, folder: Path) -> None:
    model = TINY[made(preset).model.name]
    length = 64 if model == "tiny_roberta" else 250
    tasks = [f"stages.{stage}" for stage in made(preset).stages] + ([] if model == "tiny_roberta" else ["task"])
    writing = [f"{task}.language.max_new_tokens=2" for task in tasks]
    short = made(preset, f"model={model}", f"train.max_length={length}", *SHORT, *writing)
    short.data_dir = write_official(short, folder / "data")
    record = run(short)
    assert record.status == "finished"
    assert record.training["steps"] == 2 * max(1, len(short.stages))
    assert record.settings["preset"] == preset


@pytest.mark.parametrize("preset", ONE_EACH)
def test_a_preset_of_each_folder_runs_a_few_steps_on_a_tiny_model(preset: str, tmp_path: Path) -> None:
    few_steps(preset, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("preset", [each for each in PRESETS if each not in ONE_EACH])
def test_all_other_presets_run_a_few_steps_on_a_tiny_model(preset: str, tmp_path: Path) -> None:
    few_steps(preset, tmp_path)


ALL_TARGETS = targets.read(targets.ALL)
# Numbers of the papers' tables, typed here a second time: one of every row of a table, of different columns.
PRINTED = {
    "mola_table1": {
        "Full": ("mrpc", 87.13), "LoRA r64": ("cola", 86.29), "8888": ("rte", 88.45), "5555": ("science_qa", 92.04),
        "8642": ("commonsense_qa", 77.23), "8228": ("openbook_qa", 78.8), "2468": ("mrpc", 83.48),
        "2882": ("cola", 86.19), "4444": ("rte", 86.28), "6532": ("science_qa", 92.00),
        "6226": ("commonsense_qa", 76.58), "2356": ("openbook_qa", 81.2), "2662": ("mrpc", 82.96),
    },
    "mola_table2": {
        "LoRA r64": ("mrpc", 86.02), "5555": ("cola", 87.34), "8642": ("rte", 90.61), "8228": ("science_qa", 95.01),
        "2468": ("commonsense_qa", 83.21), "2882": ("openbook_qa", 90.6), "4444": ("mrpc", 86.02),
        "6532": ("cola", 87.25), "6226": ("rte", 89.90), "2356": ("science_qa", 95.32),
        "2662": ("commonsense_qa", 82.64),
    },
    "mola_table3_llama": {
        "10-2-2-2": ("cola", 84.47), "2-10-2-2": ("rte", 87.73), "2-2-10-2": ("mrpc", 82.67),
        "2-2-2-10": ("openbook_qa", 81.6),
    },
    "mola_table3_mistral": {
        "10-2-2-2": ("openbook_qa", 88.2), "2-10-2-2": ("mrpc", 86.15), "2-2-10-2": ("rte", 90.98),
        "2-2-2-10": ("science_qa", 95.01),
    },
    "mola_table4": {
        "LoRA r64": ("mrpc", 84.41), "8888": ("cola", 85.72), "5555": ("rte", 88.81), "8642": ("science_qa", 91.41),
        "8228": ("commonsense_qa", 75.02), "2468": ("openbook_qa", 78.4),
    },
    "mola_table5": {
        "LoRA r64": ("PD", -2.17), "5555": ("OP", 88.80), "8228": ("PD", -3.92), "8642": ("OP", 88.84),
        "2468": ("PD", -0.47),
    },
    "mola_table7": {
        "LoRA r64": ("rte", 90.97), "5555": ("mrpc", 85.85), "8642": ("cola", 86.96), "8228": ("openbook_qa", 88.6),
        "2468": ("science_qa", 95.68), "2882": ("commonsense_qa", 82.48),
    },
    "mola_table8": {  # the middle of the interval
        "LoRA r64": ("mrpc", 82.745), "8888": ("openbook_qa", 81.335), "5555": ("cola", 85.90),
        "8642": ("rte", 86.04), "8228": ("science_qa", 91.665), "2468": ("commonsense_qa", 78.075),
        "2882": ("rte", 88.445),
    },
}  # fmt: skip
AVERAGES = {"Full": 85.36, "LoRA r64": 83.14, "8888": 85.26, "5555": 84.31, "2468": 84.59, "2882": 85.13}


def test_the_published_numbers_are_the_papers() -> None:
    for name, printed in PRINTED.items():
        found = ALL_TARGETS[f"papers/{name}"]
        assert set(found.arms) == set(printed)
        for arm, (column, number) in printed.items():
            assert found.number(arm, column) == pytest.approx(number)
    table = ALL_TARGETS["papers/mola_table1"]
    for arm, average in AVERAGES.items():
        assert sum(table.numbers[arm].values()) / 6 == pytest.approx(average, abs=0.006)


def test_no_number_is_guessed_where_a_table_was_not_found() -> None:
    for name, found in ALL_TARGETS.items():
        numbers = [found.number(arm, column) for arm in found.arms for column in found.columns]
        assert (None in numbers) == bool(found.missing) == name.startswith("papers/molex_")
        assert not found.missing or set(numbers) == {None}


def test_rows_are_told_of_every_column_that_a_preset_repeats_and_e2e_is_scored_on_its_test_set() -> None:
    for found in ALL_TARGETS.values():
        assert all(bool(column.rows) == bool(column.preset) for column in found.columns.values())
    e2e = made("papers/molex_e2e").task
    assert (e2e.official.validation, e2e.hub.validation) == ("e2e_nlg/test.csv", "test")
    assert {column.rows["validation"] for column in ALL_TARGETS["papers/molex_e2e"].columns.values()} == {630}


def test_every_preset_has_targets_and_every_target_a_preset_of_its_task() -> None:
    named = {column.preset for found in ALL_TARGETS.values() for column in found.columns.values() if column.preset}
    assert named == set(PRESETS)
    for found in ALL_TARGETS.values():
        for column in found.columns.values():
            metrics = made(column.preset).task.metrics if column.preset else []
            assert not metrics or column.metric in (*metrics, "performance_drop")


@pytest.mark.parametrize("table", ALL_TARGETS)
def test_every_arm_of_a_published_table_composes_and_is_told_from_the_others(table: str) -> None:
    found = ALL_TARGETS[table]
    preset = next((column.preset for column in found.columns.values() if column.preset), "papers/mola/mrpc")
    arms = [flat(as_data(made(preset, *overrides))) for overrides in found.arms.values()]
    told = [tuple(str(arm.get(key)) for key in found.told_apart_by) for arm in arms]
    assert len(set(told)) == len(arms)
    for name, arm in zip(found.arms, arms, strict=True):
        assert all(arm.get(key) == typed for key, typed in found.typed(name))


DOCS = (Path(__file__).parent.parent / "docs" / "papers.md").read_text(encoding="utf-8")


def test_the_table_of_the_documentation_is_one_and_its_commands_compose(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    own = tmp_path / "mine.yaml"
    own.write_text(block)
    assert targets.read(str(own))[str(own)].number("MoLEx", "rte") is None
    for line in re.findall(r"^molex train (.*?)(?: {2,}#.*)?$", DOCS, re.MULTILINE):
        jobs, _ = overrides.jobs(command_line.parse(shlex.split(line)))
        assert len(jobs) in (3, 6)


def test_the_documentation_names_every_preset_and_every_published_table() -> None:
    named = set(re.findall(r"`(papers/[\w/]+)`", DOCS))
    assert set(ALL_TARGETS) - named == set()
    assert {preset.rpartition("/")[0] for preset in PRESETS} <= {*named, *(each.rpartition("/")[0] for each in named)}
