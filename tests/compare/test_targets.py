"""Published numbers beside ours: which runs repeat which, what was changed, and the verdict."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support import hostile
from support.made_records import made

from molex_cli import records
from molex_cli.cli import main
from molex_cli.cli.targets import _composed as compose
from molex_cli.compare.targets import verdict
from molex_cli.compare.targets.definition import targets_of
from molex_cli.statistics.intervals import published_interval, seed_interval
from molex_cli.statistics.multiplicity import holm

PRESET = "papers/mola/rte"
ROWS = {"train": 2490, "validation": 277}
OWN = {
    "paper": "P", "version": "v", "table": "T", "selection": "s", "arms": {"A": []},
    "columns": {"c": {"metric": "accuracy", "preset": PRESET}}, "numbers": {"A": {"c": 86.28}},
}  # fmt: skip
MEANT = [86.2, 86.3, 86.4, 86.3, 86.2, 86.4]  # Table 1 has 86.28


def leave(name, scores, *overrides, preset=PRESET, rows=ROWS, metric="accuracy", degenerate=(), **more):
    """Write the records of runs of a preset that never were, one for each score in percent."""
    for seed, score in enumerate(scores):
        settings = {**json.loads(json.dumps(compose((f"experiment={preset}", *overrides)))), "seed": seed}
        record = made(seed=seed, metric=metric, degenerate=list(degenerate))
        record.settings, record.variant = settings, records.variant_id(settings)
        record.display = {"method": settings["method"]["display_name"]}
        evaluated = {"step": 9, "epoch": 1.0, "loss": 0.5, "scores": {metric: score / 100, **more}}
        record.scores |= {"last": evaluated, "best": evaluated}
        record.data = {split: {"rows_used": count, "fingerprint": "f"} for split, count in rows.items()}
        folder = Path(f"outputs/{name}-s{seed}")
        folder.mkdir(parents=True)
        records.write_record(folder, record)


def told(capsys, *arguments):
    """Return the sections of a comparison with published numbers."""
    assert main(["compare", "outputs", "--format", "json", "--targets", *arguments]) == 0
    return json.loads(capsys.readouterr().out)["sections"]


def rows_of(capsys, name="papers/mola_table1"):
    section, *_ = told(capsys, name)
    return [dict(zip(section["head"], row, strict=True)) for row in section["rows"]]


def test_a_run_of_a_preset_stands_beside_the_published_number_with_a_verdict(capsys):
    leave("a", MEANT)
    leave("b", [70.0, 70.5, 71.0, 70.2, 70.9, 70.4], "method.allocation.bands=[8,2,2,8]")
    same, below = rows_of(capsys, "papers/mola_table8")
    assert (same["published as"], same["published"], same["ours"], same["n"]) == ("2468, rte", "86.52", "86.30", "6")
    assert (same["difference"], same["verdict"]) == ("-0.22", "reproduced")
    assert (below["published as"], below["verdict"]) == ("8228, rte", "below")


def test_the_difference_is_a_one_sample_interval_against_the_printed_number(capsys):
    leave("a", MEANT)
    (row,) = rows_of(capsys)
    expected = seed_interval([score - 86.28 for score in MEANT])
    assert row["95 %"] == f"[{expected.low:+.2f}, {expected.high:+.2f}]"


SHORTENED = [
    (["train.max_steps=3"], {}, "train.max_steps=3 instead of null"),
    (["train.epochs=1"], {}, "train.epochs=1.0 instead of 20.0"),
    (["train.max_rows=100"], {"rows": {"train": 100, "validation": 100}}, "100 rows in train instead of 2,490"),
    ([], {"rows": {"train": 100, "validation": 277}}, "100 rows in train instead of 2,490"),
    ([], {"rows": {}}, "an unknown number of rows in train instead of 2,490"),
    (["model=tiny_llama"], {}, "model.name=tiny_llama instead of llama2_7b"),
    (["task=instruct/cola"], {}, "task.name=instruct/cola instead of instruct/rte"),
    (["train.batch_size=4"], {}, "train.batch_size=4 instead of 8"),
    (["method.top_k=1"], {}, "method.top_k=1 instead of 2"),
    (["hardware.base=nf4", "hardware.precision=bf16"], {}, "hardware.base=nf4 instead of fp32"),
    (["model.hub=null", "model.gguf=q4.gguf", "model.folder=weights"], {}, "model.gguf=q4.gguf instead of null"),
    (["train.selection=0.1"], {}, "train.selection=0.1 instead of 0.0"),
]


@pytest.mark.parametrize(("overrides", "more", "said"), SHORTENED)
def test_a_run_that_was_shortened_or_changed_has_no_verdict_and_is_told_what_was(overrides, more, said, capsys):
    leave("a", MEANT, *overrides, **more)
    (row,) = rows_of(capsys)
    assert row["verdict"].startswith("not decided: changed: ")
    assert said in row["verdict"]


def test_of_many_changes_what_was_shortened_is_named_first_and_the_rest_counted(capsys):
    other = [f"train.{key}" for key in ("max_length=64", "weight_decay=1", "adam_beta1=0.8", "schedule=cosine")]
    own = [f"method.{key}" for key in ("top_k=1", "rank=4", "dropout=0.1", "balance=0.1")]
    leave("a", MEANT, *own, *other, "train.epochs=1", "model=tiny_llama", "train.max_steps=3")
    (row,) = rows_of(capsys)
    named = row["verdict"].removeprefix("not decided: changed: ").split(", ")
    assert [each.partition("=")[0] for each in named[:3]] == ["model.name", "train.max_steps", "train.epochs"]
    assert (len(named), named[-1]) == (9, "3 more")


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.batch_size=2", "train.gradient_accumulation_steps=64"],
        ["train.eval_batch_size=4", "train.evaluate_every=50"],
        ["train.epochs=15"],
        ["model.hub=null", "model.folder=/weights/llama"],
        ["hardware.precision=bf16", "output_dir=elsewhere"],
    ],
    ids=" ".join,
)
def test_what_changes_no_number_or_what_the_paper_leaves_open_forbids_no_verdict(overrides, capsys):
    leave("a", MEANT, *overrides)
    (row,) = rows_of(capsys)
    assert row["verdict"] == "reproduced"


def test_another_micro_batch_is_a_change_where_the_rows_of_a_batch_choose_together(capsys):
    own = {**OWN, "columns": {"c": {"metric": "accuracy", "preset": "papers/molex_glue/rte"}}}
    Path("own.yaml").write_text(json.dumps(own))
    smaller = ("train.batch_size=16", "train.gradient_accumulation_steps=16")
    leave("a", MEANT, *smaller, preset="papers/molex_glue/rte")
    (row,) = rows_of(capsys, "own.yaml")
    assert "changed: train.batch_size=16 instead of 32, train.gradient_accumulation_steps=16" in row["verdict"]


def test_what_the_paper_leaves_open_of_one_arm_is_open_there_alone(capsys):
    lora = ("method=lora", "method.rank=64", "train.learning_rate=3e-4")
    leave("a", [85.9, 85.8, 86.0, 85.9], *lora, "method.alpha=128")
    leave("b", MEANT, "method.alpha=128")
    found = {row["published as"]: row["verdict"] for row in rows_of(capsys)}
    assert found["LoRA r64, rte"] == "reproduced"
    assert "method.alpha=128.0 instead of 16.0" in found["2468, rte"]


@pytest.mark.parametrize(
    ("scores", "more", "said"),
    [
        (MEANT[:2], {}, "too few seeds, 2 of at least 3"),
        ([86.2, 86.3, 5.0], {}, "1 of 3 seeds collapsed"),  # the best constant has 10
        (MEANT, {"metric": "f1_macro"}, "another metric: no accuracy among the scores"),
        (MEANT, {"degenerate": ["a failed self-check"]}, "a run is degenerate"),
    ],
)
def test_few_seeds_collapses_and_another_metric_decide_nothing(scores, more, said, capsys):
    leave("a", scores, **more)
    (row,) = rows_of(capsys)
    assert row["verdict"] == f"not decided: {said}"


def test_among_many_seeds_of_which_one_collapsed_a_degenerate_run_still_decides_nothing(capsys):
    leave("a", [*MEANT, 86.3, 5.0])  # the best constant has 10
    (row,) = rows_of(capsys)
    assert row["verdict"].startswith("not decided: the interval reaches beyond")
    shutil.rmtree("outputs")
    leave("a", [*MEANT, 86.3, 5.0], degenerate=["a failed self-check"])
    (row,) = rows_of(capsys)
    assert row["verdict"] == "not decided: a run is degenerate"


def test_a_number_that_was_not_found_is_left_open(capsys):
    leave("a", MEANT, preset="papers/molex_glue/rte")
    (row,) = rows_of(capsys, "papers/molex_glue")
    assert (row["published"], row["difference"]) == ("–", "–")
    assert row["verdict"].startswith("not decided: no number was found: the paper's tables were not at hand")


def test_an_arm_that_the_table_has_not_is_named_and_so_is_a_table_without_runs(capsys):
    leave("a", MEANT, "method.allocation.bands=[3,3,3,3]")
    (section,) = told(capsys, "papers/mola_table1")
    assert section["rows"] == [["MoLA, Table 1", "no arm of it is like MoLA-▽ (paper) in instruct/rte llama2_7b"]]
    (section,) = told(capsys, "papers/mola_table2")
    assert section["rows"][0][1] == "no run here began with a preset of it, such as experiment=papers/mola_mistral/mrpc"
    (section,) = told(capsys, "papers/mola_table4")
    assert section["rows"][0][1].startswith("molex does not tune on 50,000 rows of OpenOrca")


def test_without_a_name_all_tables_are_searched(capsys):
    leave("a", MEANT)
    titles = [section["title"] for section in told(capsys)]
    assert [re.findall("Table .", title) for title in titles] == [["Table 1"], ["Table 8"]]


def test_the_stages_of_continual_learning_have_their_two_numbers(capsys):
    names = {"biology": 397, "physics": 192, "chemistry": 119, "economics": 84, "earth_science": 65}
    rows = {f"{name}/validation": count for name, count in names.items()}
    leave("a", [89.8, 89.9, 89.7, 89.8], preset="papers/mola/continual", rows=rows, performance_drop=-0.0047)
    found = {row["published as"]: row for row in rows_of(capsys, "papers/mola_table5")}
    assert found["2468, OP"]["verdict"] == "reproduced"
    assert (found["2468, PD"]["published"], found["2468, PD"]["ours"]) == ("-0.47", "-0.47")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "own.yaml, line 1, must be YAML"),
        ("- 1", "own.yaml, line 1, must"),
        ("", "own.yaml must be a published table as docs/papers.md shows, got: Object missing required field"),
        ({"columns": {"c": {"metric": "acuracy"}}}, "columns.c.metric must be one that molex knows, got acuracy; did"),
        ({"numbers": {"B": {"c": 1}}}, "numbers must have the names of arms and columns, got B"),
        ({"intervals": {"A": {"c": [1, 2]}}}, "spread must say what intervals are, got none"),
        ({"intervals": {"A": {"c": [2, 1]}}, "spread": {"seeds": 3}}, "intervals.A.c must begin with its lower end"),
        ({"spread": {"seeds": 1}}, "spread must be of two seeds at least and a z above 0, got 1 and 1.96"),
        ({"margin": 0}, "margin must be above 0 and finite, got 0.0"),
        ({"margin": 1e300, "numbers": {"A": {"c": None}}, "runs": -1}, "runs must be at least 1, got -1"),
        (json.dumps(OWN).replace("86.28", ".nan"), "numbers and intervals must be finite"),
        (
            json.dumps(OWN).replace('{"c": 86.28}}', '{"c": 86.28}}, "margin": .inf'),
            "margin must be above 0 and finite",
        ),
        ({"runs": 0}, "runs must be at least 1, got 0"),
        ({"odd": 0}, "got: Object contains unknown field `odd`"),
        ({"numbers": {"A": {"c": "many"}}}, "Expected `float | null`, got `str`"),
        ({"arms": {"A": ["method.rnak=3"]}}, "method.rnak is no setting; did you mean method.rank?"),
        ({"arms": {"A": ["method=["]}}, "arms.A must have settings as they are typed, got method=["),
        ({"arms": {"A": ["method"]}}, "arms.A must have settings as they are typed, got method"),
        ({"columns": {"c": {"metric": "accuracy", "preset": 3}}}, "Expected `str | null`, got `int`"),
    ],
)
def test_a_damaged_file_is_one_line(content, said, capsys):
    leave("a", MEANT)
    Path("own.yaml").write_text(content if isinstance(content, str) else json.dumps({**OWN, **content}))
    assert main(["compare", "outputs", "--targets", "own.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("papers/mola_table11", "--targets must be a published table or a FILE.yaml, got papers/mola_table11; did you"),
        ("nope.yaml", "--targets must be a YAML file, got nope.yaml (No such file or directory)"),
        ("outputs.yaml", "--targets must be a YAML file, got outputs.yaml (a folder is there)"),
    ],
)
def test_an_unknown_name_is_one_line(name, said, capsys):
    leave("a", MEANT[:1])
    Path("outputs.yaml").mkdir()
    assert main(["compare", "outputs", "--targets", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_csv_has_no_room_for_them_and_says_so(capsys):
    leave("a", MEANT[:1])
    assert main(["compare", "outputs", "--targets", "papers/mola_table1", "--format", "csv"]) == 2
    assert "--targets must go with a format that has more than one table, got csv" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["table", "md", "latex", "html"])
def test_every_other_format_shows_them_and_escapes_what_a_file_says(name, capsys):
    leave("a", MEANT)
    name_of = hostile.SCRIPT + "\x1b[2J & $x$ | _b_"
    own = {**OWN, "paper": name_of, "arms": {name_of: []}, "numbers": {name_of: {"c": 86.28}}}
    Path("own.yaml").write_text(json.dumps(own))
    where = ["--html", "page.html"] if name == "html" else ["--format", name, "--output", "table.txt"]
    assert main(["compare", "outputs", "--targets", "own.yaml", *where]) == 0
    shown = Path(where[-1]).read_text()
    assert "reproduced" in shown
    assert "\x1b" not in shown
    assert (hostile.SCRIPT in shown) == (name in ("table", "latex"))  # these have no scripts
    assert name != "latex" or r"\$x\$" in shown


def judged(scores, published, margin=1.0, theirs=None, runs=1):
    """Return the verdict on one number, as it is made of the two intervals."""
    differences = [score - published for score in scores]
    (p,) = holm([published_interval(differences, theirs, runs).p])
    return verdict(seed_interval(differences), p, margin)


@cache
def simulated(shift, seeds, deviation=0.5, exact=False, sets=2000):
    """Return how often each verdict falls, of runs whose true mean is off the published one by `shift`."""
    stream = np.random.default_rng(7)
    found = {"reproduced": 0, "above": 0, "below": 0, "not decided": 0}
    for _ in range(sets):
        number = 80.0 if exact else stream.normal(80, deviation)
        found[judged(stream.normal(80 + shift, deviation, seeds), number).partition(":")[0]] += 1
    return {name: count / sets for name, count in found.items()}


def test_two_seeds_decide_nothing_however_far_they_are_off():
    found = simulated(20, 2)
    assert found["not decided"] == 1 - found["reproduced"]
    assert found["reproduced"] == 0


def test_a_run_of_the_same_setting_is_called_above_or_below_in_a_twentieth_at_most():
    found = simulated(0, 5)
    assert found["above"] + found["below"] < 0.06


def test_a_mean_as_far_off_as_the_margin_is_rarely_called_reproduced():
    assert simulated(1.0, 5, exact=True)["reproduced"] < 0.035


def test_equal_means_are_reproduced_and_shifted_ones_are_not():
    assert simulated(0, 10, exact=True)["reproduced"] > 0.95
    assert simulated(5, 5)["above"] > 0.95
    assert simulated(-5, 5)["below"] > 0.95


def test_scores_that_do_not_vary_decide_nothing():
    assert judged([80.0, 80.0, 80.0], 80.0).startswith("not decided")


def test_a_mean_off_a_number_of_one_run_waits_for_more_than_that_run():
    assert judged([84.0, 83.0, 85.0], 80.0) == "not decided: off the number, but another run of theirs may be, too"


def test_a_published_interval_tells_the_variance_of_a_run():
    content = {
        "paper": "P", "version": "v", "table": "T", "selection": "s", "arms": {"A": []},
        "columns": {"c": {"metric": "accuracy"}}, "intervals": {"A": {"c": [79.0, 81.0]}},
        "spread": {"seeds": 4, "z": 2.0},
    }  # fmt: skip
    found = targets_of(content, "own.yaml")
    assert found.number("A", "c") == 80.0  # the middle
    variance = found.variance("A", "c")
    assert (variance.square, variance.degrees_of_freedom) == (1.0, 3)  # a half width of 1 = 2 x sd / sqrt(4)
