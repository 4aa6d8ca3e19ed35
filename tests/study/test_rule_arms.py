"""Arms of a study may name a rule: their counts are computed before anything runs, for what was matched."""

from pathlib import Path

from molex_cli.cli import main
from molex_cli.config import command_line, schema
from molex_cli.study import definition
from molex_cli.study.arms import Composer, prepared, variants

STUDY = """
base: [experiment=smoke, method=lora, method.allocation.rows=9]
arms:
  spectral: [method.allocation.rule=spectral, method.allocation.total=12]
  gradient: [method.allocation.rule=gradient, method.allocation.total=12]
  random: [method.allocation.rule=random, method.allocation.total=12, method.allocation.seed=1]
  mola: [method=mola_inverted, method.clip_top_k=true, method.allocation.shape=null, method.allocation.rule=gradient]
"""


def composed(text):
    Path("study.yaml").write_text(text)
    study = definition.read(Path("study.yaml"))
    schema.register()
    composer = Composer(study.base, command_line.CommandLine(overrides=[]))
    return study, composer, prepared(study, composer)


def test_arms_of_rules_are_different_arms_with_counts_that_all_seeds_share():
    study, composer, arms = composed(STUDY)
    assert len(set(variants(study, composer, arms).values())) == 4
    for arm in arms:
        counts = [composer.job(arm, seed).experiment.method.allocation.layers for seed in (0, 1)]
        assert counts[0] == counts[1]
        assert (counts[0] is None) == (arm.name == "random")  # a shape has its counts without being computed


def test_a_matched_arm_has_the_counts_of_what_was_matched():
    _, composer, arms = composed(STUDY + "match: {to: mola, solve: total}\n")
    totals = {arm.name: sum(composer.experiment(*arm.overrides).method.allocation.layers or []) for arm in arms}
    assert totals["mola"] == 20
    assert totals["gradient"] == totals["spectral"]
    assert totals["gradient"] in (20, 21)


def test_an_arm_whose_rule_cannot_be_computed_is_one_line(capsys):
    Path("study.yaml").write_text(STUDY.replace("rule=spectral", "rule=knockout, method.allocation.from_run=nowhere"))
    assert main(["study", "study.yaml", "--plan"]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "arm spectral: method.allocation.from_run must be the folder of a finished run, got nowhere" in line
