"""Figures for a paper: scores by seed, curves, and scores over a setting; nothing overlaps, few data are readable."""

import json
import math
from itertools import combinations
from pathlib import Path

import pytest
from support.made_records import leave

from molex_cli.cli import main
from molex_cli.compare import figure, paper_panels, pictures, plots
from molex_cli.compare.layout import Report
from molex_cli.compare.loading import load
from molex_cli.compare.paper import Style, _apart
from molex_cli.compare.table import compare

RATE = "train.learning_rate"
LONG = "method.allocation.total=192, train.learning_rate=0.0005"


def runs(arms=3, seeds=(0, 1, 2), *, names="Arm {}", rates=(1e-3,), steps=(0, 50, 100), tasks=("rte",), losses=True):
    """Write runs of some arms with their events; return the report on them."""
    for arm in range(arms):
        for task in tasks:
            for rate in rates:
                for seed in seeds:
                    folder = Path(f"outputs/{task}-{arm}-{rate}-{seed}")
                    share = 0.5 + 0.03 * arm + 0.01 * seed
                    own = {"display": {"method": names.format(arm)}, "settings": {"train": {"learning_rate": rate}}}
                    leave(folder, f"m{arm}", seed, share, task=task, variant=f"{arm} {rate} {task}", **own)
                    events = [{"event": "step", "step": i + 1, "loss": math.exp(-i / 50)} for i in range(100 * losses)]
                    scored = {"event": "evaluated", "split": "validation"}
                    events += [{**scored, "step": s, "scores": {"accuracy": share * (1 + s) / 101}} for s in steps]
                    (folder / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    rows = ["method"] if len(rates) == 1 else ["method", RATE]
    found = load([Path("outputs")])
    return Report(compare(found.runs, rows, ["task"], "last"), runs=found.runs)


def drawn(report, kind, width=figure.COLUMN):
    """Return the figure as it is laid out."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context(figure.SETTINGS):
        made = figure.KINDS[kind](report, width, figure.SIZE)
        FigureCanvasAgg(made).draw()
    return made


def boxes(made):
    """Return text, box and size of every text that is seen."""
    from matplotlib.text import Text

    unseen = set()
    for axis in (axis for axes in made.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            unseen |= {id(tick.label2)} | ({id(tick.label1)} if not low <= tick.get_loc() <= high else set())
    found = {id(each): each for each in made.findobj(Text) if each.get_text().strip() and id(each) not in unseen}
    return [(each.get_text(), each.get_window_extent(), each.get_fontsize()) for each in found.values()]


@pytest.mark.parametrize("kind", ["scores", "curves", "rates", "differences"])
@pytest.mark.parametrize("arms", [2, 5, 12])
@pytest.mark.parametrize("names", ["Arm {}", "Arm {} (" + LONG + ")"])
def test_no_text_overlaps_another_or_leaves_the_figure_and_none_is_too_small(kind, arms, names):
    report = runs(
        arms, names=names, rates=(1e-4, 3e-4, 1e-3, 3e-3) if kind == "rates" else (1e-3,), tasks=("rte", "mrpc")
    )
    made = drawn(report, kind)
    found = boxes(made)
    assert min(size for *_, size in found) >= 7
    for (one, first, _), (other, second, _) in combinations(found, 2):
        assert not first.padded(-0.5).overlaps(second.padded(-0.5)), (one, other)
    whole = made.bbox
    for text, box, _ in found:
        assert min(box.x0, box.y0, whole.x1 - box.x1, whole.y1 - box.y1) > -1, text


@pytest.mark.parametrize("kind", ["scores", "curves"])
def test_one_seed_and_one_evaluation_are_drawn(kind):
    report = runs(2, seeds=(0,), steps=(100,))
    made = drawn(report, kind)
    lines = [line for line in made.axes[0].lines if len(line.get_xdata())]
    assert len(lines) == 2
    if kind == "curves":
        assert made.axes[0].get_ylabel() == "training loss"
        assert all(len(line.get_xdata()) > 10 for line in lines)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("curves", "--figure curves must have runs with losses or two evaluations, got none"),
        ("rates", f"--figure rates must have runs at two values of {RATE} at least, got one"),
        ("differences", "--figure must have differences to draw, got none"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_line(kind, told, capsys):
    runs(1, steps=(100,), losses=False)
    assert main(["compare", "outputs", "--figure", kind, "a.pdf"]) == 2
    assert told in capsys.readouterr().err
    assert not Path("a.pdf").exists()


def test_each_kind_is_a_file_beside_the_table_and_several_are_made_at_once(capsys):
    runs(2, rates=(1e-3, 1e-2))
    kinds = ["scores", "curves", "rates", "differences"]
    flags = [each for kind in kinds for each in ("--figure", kind, f"{kind}.pdf")]
    assert main(["compare", *flags, "outputs", "--figure", "plain.pdf"]) == 0
    for kind in kinds:
        content = Path(f"{kind}.pdf").read_bytes()
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
        assert b"/Image" not in content.replace(b"/ImageC", b"").replace(b"/ImageB", b"").replace(b"/ImageI", b"")
    assert Path("plain.pdf").read_bytes() == Path("differences.pdf").read_bytes()
    assert main(["compare", "outputs", "--figure", "scores"]) == 2
    assert "--figure must name a file such as scores.pdf, got scores" in capsys.readouterr().err


def test_curves_are_means_between_the_lowest_and_the_highest_seed():
    made = drawn(runs(1, seeds=(0, 1, 2)), "curves")
    (line,) = made.axes[0].lines
    assert list(line.get_xdata()) == [0, 50, 100]
    assert line.get_ydata()[-1] == pytest.approx(51.0)
    (band,) = made.axes[0].collections
    heights = [y for x, y in band.get_paths()[0].vertices if x == 100]
    assert (min(heights), max(heights)) == (pytest.approx(50), pytest.approx(52))


def test_curves_name_the_runs_that_they_do_not_show_and_the_steps_without_a_score():
    runs(3)
    hurt, bare, gap = (Path(f"outputs/rte-{arm}-0.001-{arm}/events.jsonl") for arm in range(3))
    hurt.write_text('{"event": "evaluated\n' + hurt.read_text())
    bare.unlink()
    scored, undefined = ('"step": 50, "scores": {"accuracy": ' + each for each in ("0.", 'null, "other": 0.'))
    gap.write_text(gap.read_text().replace(scored, undefined))
    found = load([Path("outputs")])
    report = Report(compare(found.runs, ["method"], ["task"], "last"), runs=found.runs)
    told = " ".join(drawn(report, "curves").axes[0].get_xlabel().split())
    assert "damaged events, so not drawn: Arm 0, seed 0" in told
    assert "no evaluation in its events, so not drawn: Arm 1, seed 1" in told
    assert "undefined, so not drawn: Arm 2, seed 2, step 50" in told
    (caption,) = [picture.caption for picture in pictures.curves(report.table)]
    assert all(name in caption for name in ("Arm 0, seed 0", "Arm 1, seed 1", "Arm 2, seed 2, step 50"))


def test_a_broken_line_of_a_loss_is_told_and_one_that_was_cut_off_at_the_end_is_none():
    report = runs(1, steps=(100,))
    path = Path("outputs/rte-0-0.001-1/events.jsonl")
    whole = path.read_text()
    path.write_text(whole + '{"event": "step", "st')
    assert not paper_panels.curves(report)[0].note
    path.write_text(whole.replace('"step", "step": 7,', '"step", "step":', 1))
    assert paper_panels.curves(report)[0].note == "damaged events, so not drawn: Arm 0, seed 1"


def test_curves_beside_scores_of_another_split_say_what_they_are_on():
    report = runs(1)
    for run in (runs_of := report.table.runs_of("m0")):
        object.__setattr__(run, "split", "test")
    assert paper_panels.curves(report)[0].y == "accuracy % on validation"
    (caption,) = [picture.caption for picture in pictures.curves(report.table)]
    assert caption.endswith("; on validation")
    assert len(runs_of) == 3


def test_rates_of_more_arms_than_can_be_told_apart_say_so():
    assert paper_panels.rates(runs(13, seeds=(0,), rates=(1e-3, 1e-2)))[0].note == "12 of 13 arms"


def test_rates_are_drawn_by_arm_at_the_values_that_were_run():
    made = drawn(runs(2, rates=(1e-4, 1e-3, 1e-2)), "rates")
    (axes,) = made.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.0001", "0.001", "0.01"]
    assert [list(line.get_xdata()) for line in axes.lines] == [pytest.approx([-4, -3, -2], abs=0.1)] * 2
    assert axes.lines[0].get_xdata()[0] < -4 < axes.lines[1].get_xdata()[0]  # bars stand beside each other
    assert axes.get_xlabel() == RATE
    legend = [text.get_text() for text in made.legends[0].get_texts()]
    assert legend == ["Arm 0", "Arm 1"]


def test_twelve_arms_differ_in_more_than_their_colour():
    looks = [Style(i, 7).line for i in range(12)]
    marks = {(look["marker"], look["markerfacecolor"] == plots.BACK) for look in looks}
    assert len(marks) == 12


def test_labels_of_values_that_are_close_leave_each_other_room():
    ticks = {float(i): f"{i}.00000" for i in range(30)}
    kept = _apart(ticks, room=170, letter=4.2)
    assert min(kept) == 0.0
    assert 2 <= len(kept) <= 6
