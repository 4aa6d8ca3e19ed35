"""What a terminal shows of a comparison: the verdict, the columns that fit, notes under headings."""

from pathlib import Path

import pytest
from support.made_records import leave, outputs

from molex_cli.cli import main


def shown(capsys, *options):
    assert main(["compare", "outputs", *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_table_is_as_wide_as_the_terminal_and_names_the_columns_that_do_not_fit(width, monkeypatch, capsys):
    for task in ("rte", "mrpc"):
        for method in ("lora", "mola"):
            for seed in range(3):
                leave(Path(f"outputs/{task}-{method}-{seed}"), method, seed, 0.6, task=task)
    monkeypatch.setenv("COLUMNS", str(width))
    _, table, *_ = shown(capsys).split("\n\n")
    head, _, told = table.partition("\ncolumns that do not fit: ")
    assert max(map(len, head.splitlines())) <= width
    names = ("collapsed", "trainable", "added", "routers", "head", "MFLOPs/token", "tokens/s", "MB")
    assert [name for name in names if (name in head.split()) is (name in told.replace(",", "").split())] == []
    assert ("MB" in told) is (width < 140)


def test_a_pipe_gets_a_hundred_columns_and_each_sentence_in_a_line(capsys):
    outputs(lora=0.6, mola=0.9)
    lines = shown(capsys).splitlines()
    assert max(len(line) for line in lines[2:6]) <= 100
    assert any(line.startswith("rte minilm: MOLA is better") and line.endswith(".") for line in lines)


def test_columns_are_those_that_are_named_in_their_order(capsys):
    outputs(lora=0.6, mola=0.9)
    assert "method  added  trainable      accuracy % ↑\n" in shown(capsys, "--columns", "added,trainable,scores")
    everything = shown(capsys, "--columns", "all")
    assert "peak" in everything
    assert "columns that do not fit" not in everything
    markdown = shown(capsys, "--columns", "rte minilm", "--format", "md")
    assert "| method | rte minilm accuracy % ↑ |\n" in markdown


def test_details_are_counted_and_shown_when_that_is_asked_for(capsys):
    outputs(lora=0.6, mola=0.9)
    leave(Path("outputs/other"), "molex", 0, 0.5, environment={"packages": {"torch": "2.12.0"}})
    brief, full = shown(capsys), shown(capsys, "--verbose")
    assert "torch versions differ" not in brief
    assert "4 notes on details: --verbose" in brief
    assert "torch versions differ: 2.12.0 (MOLEX); 2.13.0 (LORA, MOLA)" in full
    assert "--verbose" not in full
    headings = [line for line in full.splitlines() if line in ("Confounds", "Small samples", "Reading")]
    assert headings == ["Confounds", "Small samples", "Reading"]


def test_settings_are_sorted_by_size_and_rounded_and_methods_have_their_names_for_people(capsys):
    for value in (16.0, 0.1 + 0.2, 2.0):
        settings = {"method": {"name": "lora", "published": False, "alpha": value}}
        for seed in range(2):
            leave(Path(f"outputs/{value}-{seed}"), "lora", seed, 0.6, settings=settings, variant=str(value),
                  display={"method": "LoRA"})  # fmt: skip
    rows = [line.split("  ")[0] for line in shown(capsys).splitlines() if line.startswith("LoRA (")]
    expected = [f"LoRA (method.alpha={value})" for value in ("0.3", "2", "16")]
    assert rows[:3] == expected
    assert "0.30000000000000004" not in shown(capsys)
    against = shown(capsys, "--against", "LoRA (method.alpha=0.3)")
    assert "differences in rte minilm accuracy % from LoRA (method.alpha=0.3)" in against


def test_values_that_are_printed_alike_are_told_apart(capsys):
    for value in (0.3, 0.1 + 0.2):
        settings = {"method": {"name": "lora", "published": False, "alpha": value}}
        leave(Path(f"outputs/{value}"), "lora", 0, 0.6, settings=settings, variant=str(value))
    assert "lora (method.alpha=0.30000000000000004)" in shown(capsys)
