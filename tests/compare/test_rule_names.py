"""Arms of rules differ in the rule: the counts that it gave are no further difference."""

from pathlib import Path

from support.made_records import leave, table_of

from molex_cli.compare.arms import defining, shown
from molex_cli.compare.confounds import confounds
from molex_cli.compare.loading import load


def test_the_counts_of_a_rule_are_no_confound_where_rules_are_compared():
    for rule, layers in (("gradient", [1, 2, 3]), ("spectral", [3, 2, 1]), ("inverted", None)):
        for seed in range(3):
            allocation = {"rule": rule, "layers": layers, "scores": [0.1 * seed, 0.5, 1.0], "rows": 256, "total": 6}
            method = {"name": "lora", "published": False, "learning_rate": 1e-3, "allocation": allocation}
            leave(Path(f"outputs/{rule}-s{seed}"), seed=seed, variant=rule, settings={"method": method})
    table = table_of(Path("outputs"), rows=("method.allocation.rule",))
    assert not [line for line in confounds(table) if "method.allocation" in line]
    assert sorted(table.rows) == [f"method.allocation.rule={rule}" for rule in ("gradient", "inverted", "spectral")]
    assert "method.allocation.scores" not in defining(load([Path("outputs")]).runs[0])


def test_counts_that_were_typed_are_still_told():
    for name, layers in (("one", [1, 2, 3]), ("two", [3, 2, 1])):
        method = {"name": "lora", "published": False, "learning_rate": 1e-3, "allocation": {"layers": layers}}
        leave(Path(f"outputs/{name}-s0"), seed=0, variant=name, settings={"method": method})
    table = table_of(Path("outputs"))
    assert any("method.allocation.layers" in row for row in table.rows)


def test_a_section_as_a_row_shows_what_is_set_in_it():
    section = {"shape": "top", "total": 30, "rule": None, "layers": [0, 2]}
    assert shown(section) == "{shape: top, total: 30, layers: [0, 2]}"
