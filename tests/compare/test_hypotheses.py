"""Hypotheses written before the runs get a verdict with all that speaks against it."""

import re
from pathlib import Path

import pytest
from support.made_records import leave, outputs

from molex_cli.cli import main

CLAIMS = """\
- mola > lora on rte
- {claim: lora > mola on rte, seeds: [0, 1]}
- molex > mola on rte
- {claim: molex > lora on cola, alpha: 0.01}
"""


def test_claims_get_verdicts_with_all_that_speaks_against_them(capsys):
    outputs(lora=0.6, mola=0.9, molex=0.895)
    leave(Path("outputs/cola"), "lora", 0, 0.4, task="cola")
    Path("claims.yaml").write_text(CLAIMS)
    assert main(["compare", "outputs", "--cols", "task", "--claims", "claims.yaml"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " on rte: " in line or " on cola: " in line]
    assert [re.split("[:,]", line)[1].strip() for line in lines] == [
        "supported",
        "contradicted",
        "undecided",
        "not run",
    ]
    assert "n = 3 seeds" in lines[0]
    assert "detectable" in lines[2]
    assert "seeds 2 were added to those that were to decide" in lines[1]
    assert "it was written or changed after seeds 0, 1, 2 had started" in lines[0]  # these records have no start


def test_a_claim_whose_file_is_older_has_no_flag_and_the_reader_is_told_what_that_is_worth(capsys):
    for seed in (0, 1, 2):
        for method, share in (("lora", 0.6), ("mola", 0.9)):
            leave(Path(f"outputs/{method}-s{seed}"), method, seed, share, started="2999-01-01T00:00:00+00:00")
    Path("claims.yaml").write_text("- {claim: mola > lora on rte, seeds: [0, 1, 2]}\n")
    assert main(["compare", "outputs", "--cols", "task", "--claims", "claims.yaml"]) == 0
    shown = capsys.readouterr().out.splitlines()
    (line,) = [line for line in shown if line.startswith("  mola > lora on rte: ")]
    assert ";" not in line
    (told,) = [line for line in shown if line.startswith("  claims.yaml has ")]
    assert "judged by the time of the file alone, which anybody can set" in told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- mola beats lora", "claims.yaml, claim 1 must read `ARM > ARM on COLUMN`, got mola beats lora"),
        (
            "- {claim: mola > lora on rte, seed: 1}",
            "claim 1 must have claim, seeds, alpha, got seed; did you mean seeds?",
        ),
        ("- {claim: mola > lora on rte, alpha: 5}", "alpha must be between 0 and 1, got 5"),
        ("- mla > lora on rte", "a claim must be on the table's arms and columns, got mla; did you mean mola?"),
        ("{", "--claims must be a YAML file, got claims.yaml"),
        ("", "must be a list of claims"),
    ],
)
def test_a_claim_that_cannot_be_read_is_refused_in_one_line(capsys, content, words):
    outputs(lora=0.6, mola=0.9)
    Path("claims.yaml").write_text(content)
    assert main(["compare", "outputs", "--cols", "task", "--claims", "claims.yaml"]) == 2
    assert words in capsys.readouterr().err
