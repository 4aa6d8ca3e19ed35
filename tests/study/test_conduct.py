"""A study from first to last: what it asks for, what it concludes, and that it resumes; runs that never were."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from support.made_records import made

from molex_cli import records
from molex_cli.cli import main
from molex_cli.cli import study as command
from molex_cli.config import run_id
from molex_cli.study.runs import Ended

BASE = "base: [model=tiny_bert, train.max_rows=64, train.selection=0.2, log.wandb=disabled]\n"
ARMS = "arms: {good: [method=lora], bad: [method=bitfit], same: [method=head]}\n"
SHARES = {"good": 0.8, "bad": 0.5, "same": 0.5}


BROKEN = []
"""Not empty where every run diverges."""


@pytest.fixture
def launched(monkeypatch):
    """Leave records in place of runs; return the list of what was launched."""
    asked = []

    def launch(jobs, about, settings):
        asked.extend(" ".join(job.values) for job in jobs)
        return [end_of(job) for job in jobs]

    monkeypatch.setattr(command, "_launched", launch)
    return asked


def share_of(job):
    """Return how many examples an arm gets right."""
    return SHARES[job.values[0]]


def end_of(job):
    """Leave the record of a job's run, which is the same each time, and return its end."""
    name, *_, seed = job.values
    seed, rate = int(seed.removeprefix("seed=")), job.experiment.learning_rate
    folder = Path(job.experiment.output_dir) / run_id.run_name(job.experiment).replace("/", "-")
    if folder.exists():
        shutil.rmtree(folder)
    share = share_of(job) + 0.01 * np.random.default_rng([seed, len(name)]).standard_normal()
    settings = {"train": {"learning_rate": rate}, "task": {"name": "nli"}}
    record = made(job.experiment.method.name, seed, share, task="nli", settings=settings)
    for which in ("last", "best"):
        record.scores[which] = {**record.scores[which], "selection": {"accuracy": 1 - abs(rate - 0.002)}}
    if rate == 9 or BROKEN:
        record.status, record.error = "failed", {"type": "TrainingError", "message": "loss must be finite, got nan"}
    record.started = datetime.now(UTC).isoformat()
    folder.mkdir(parents=True)
    records.write_record(folder, record)
    return Ended(str(record.status), str(folder), record.error and record.error["message"])


def conducted(content, *arguments):
    """Conduct a study; return its report."""
    Path("study.yaml").write_text(BASE + ARMS + content)
    assert main(["study", "study.yaml", *arguments]) == 0
    folder = arguments[0].removeprefix("output_dir=") if arguments else "outputs"
    return json.loads(Path(folder, "studies/study/study.json").read_text())


def texts(report):
    """Return the notes of a report."""
    return [note["text"] for note in report["notes"]]


def verdicts(report):
    return {f"{each['one']} {each['other']}": each["verdict"] for each in report["effects"]}


def test_seeds_go_only_to_arms_of_open_claims(launched):
    report = conducted("claims: [good > bad, bad > same]\nseeds: {first: 3, most: 6}\n")
    assert verdicts(report)["good bad"].startswith("supported")
    assert verdicts(report)["bad same"].startswith("undecided")
    seeds = {name: sum(text.startswith(name) for text in launched) for name in SHARES}
    assert seeds["good"] < seeds["bad"] == seeds["same"]
    assert len(set(launched)) == len(launched)


def test_a_claim_may_be_contradicted_and_pairs_say_who_is_better(launched):
    assert verdicts(conducted("claims: [bad > good, same > good]\nseeds: {most: 4}\n")) == {
        "bad good": "contradicted",
        "same good": "contradicted",
    }
    report = conducted("seeds: {most: 4}\n")
    assert verdicts(report)["good bad"] == "different, good is better"
    assert verdicts(report)["bad same"] == "undecided: all 4 seeds are used"


def test_the_interval_over_all_looks_excludes_zero_where_a_look_decides_alone(launched):
    report = conducted("claims: [good > bad, good > same]\nseeds: {most: 4}\n")
    effect, answer = report["effects"][0], report["answers"][0]
    assert 0 < effect["low"] < effect["estimate"] < effect["high"]
    assert f"[{effect['low']:+.2f}, {effect['high']:+.2f}]" in answer
    cell = next(cell for cell in report["cells"] if cell["row"] == "good")
    assert effect["seeds"] == len(cell["by_seed"])


def test_every_arm_is_tuned_on_seeds_that_report_nothing(launched):
    report = conducted("tune: {train.learning_rate: [1e-3, 2e-3, 4e-3], seeds: 2}\nseeds: {most: 3}\n")
    trials = [text for text in launched if "train.learning_rate" in text and "seed=10" in text]
    assert len(trials) == 3 * 3 * 2
    assert [cell["tuned"]["values"] for cell in report["cells"]] == [{"train.learning_rate": 0.002}] * 3
    assert all(int(seed) < 3 for cell in report["cells"] for seed in cell["by_seed"])
    assert not any("learning_rate differs" in note or "learning rates" in note for note in texts(report))


def test_a_trial_that_diverged_is_the_worst_and_a_run_that_did_stops_the_study(launched, capsys):
    grid = "tune: {train.learning_rate: [2e-3, 9], seeds: 1}\nseeds: {most: 3}\n"
    report = conducted(grid)
    assert {cell["tuned"]["values"]["train.learning_rate"] for cell in report["cells"]} == {0.002}
    capsys.readouterr()
    Path("study.yaml").write_text(BASE.replace("[", "[train.learning_rate=9, ", 1) + ARMS)
    launched.clear()
    BROKEN.append(True)
    try:
        assert main(["study", "study.yaml", "output_dir=other"]) == 2
    finally:
        BROKEN.clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert "a study needs every run that it asks for, got good seed=0: loss must be finite" in line
    assert "comes again with this seed: tune the learning rate, or lower it" in line


def test_below_eight_seeds_a_collapse_decides_nothing(launched, monkeypatch):
    plan = "claims: [good > bad, good > same]\nseeds: {most: 4}\n"
    assert verdicts(conducted(plan))["good bad"] == "supported"
    monkeypatch.setitem(SHARES, "same", 0.05)  # below the constant's 0.1
    report = conducted(plan, "output_dir=two")
    assert verdicts(report)["good bad"].startswith("undecided: a seed collapsed")


def test_a_study_repeats_its_looks_on_the_runs_that_it_finds(launched, capsys):
    plan = "claims: [good > bad, bad > same]\nseeds: {first: 3, most: 5}\n"
    first, shown = conducted(plan), capsys.readouterr().out
    again = conducted(plan)
    assert again == first
    looks = [line for line in shown.splitlines() if line.startswith("after")]
    assert looks == [line for line in capsys.readouterr().out.splitlines() if line.startswith("after")]
    assert len(looks) > 1


def test_a_file_that_changes_after_the_first_run_is_told_ever_after(launched):
    plan = "claims: [good > bad, good > same]\nseeds: {most: 3}\n"
    assert any("since before its first run" in note for note in texts(conducted(plan)))
    changed = conducted(plan + "alpha: 0.1\n")
    assert any("changed after runs had started" in note for note in texts(changed))
    assert any("changed after runs had started" in note for note in texts(conducted(plan)))


def test_settings_that_arms_are_meant_to_differ_in_are_no_confound(launched):
    notes = texts(conducted("seeds: {most: 3}\n"))
    assert not any(note.startswith("method") for note in notes)


def test_all_formats_say_the_answers_first(launched):
    report = conducted("claims: [good > bad, good > same]\nseeds: {most: 3}\n")
    folder = Path("outputs/studies/study")
    for name in ("study.html", "study.md"):
        text = (folder / name).read_text()
        assert 0 < text.index("supported") < text.index("mean ±")
    assert "supported" in (folder / "study.tex").read_text()
    assert report["title"] == "Study study"


def test_two_processes_do_not_work_on_one_study(launched, capsys):
    from filelock import FileLock

    Path("outputs/studies/study").mkdir(parents=True)
    Path("study.yaml").write_text(BASE + ARMS)
    with FileLock("outputs/studies/study/.lock"):
        assert main(["study", "study.yaml"]) == 2
    assert "another that works on outputs/studies/study" in capsys.readouterr().err
    assert not launched


def test_names_of_arms_are_text_in_every_format(launched, monkeypatch):
    name = "<b>$x_1$ & \\\\textbf{y}"
    monkeypatch.setitem(SHARES, name, 0.8)
    monkeypatch.setattr(__name__ + ".ARMS", f"arms: {{'{name}': [method=lora], bad: [method=bitfit]}}\n", raising=False)
    report = conducted("seeds: {most: 3}\n")
    assert report["effects"][0]["one"] == name
    assert "<b>" not in (Path("outputs/studies/study") / "study.html").read_text()
    lines = (Path("outputs/studies/study") / "study.tex").read_text().splitlines()
    assert not [line for line in lines if "\\textbf{y}" in line and not line.startswith("%")]  # but in comments


def test_a_figure_that_cannot_be_written_is_told_before_anything_runs(launched, capsys):
    Path("study.yaml").write_text(BASE + ARMS)
    assert main(["study", "study.yaml", "--figure", "differences.bmp"]) == 2
    assert "--figure must be a file of .pdf, .svg, .png" in capsys.readouterr().err
    assert not launched
    conducted("seeds: {most: 3}\n", "output_dir=outputs", "--figure", "differences.svg")
    assert Path("differences.svg").read_text().startswith("<?xml")


def test_ctrl_c_says_that_the_same_command_resumes(monkeypatch, capsys):
    def launch(jobs, about, settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_launched", launch)
    Path("study.yaml").write_text(BASE + ARMS)
    assert main(["study", "study.yaml"]) == 130
    assert "Ctrl-C ended study; the same command starts or resumes it" in capsys.readouterr().err


def collapse(monkeypatch, name, first):
    """Let every seed of an arm from one on learn nothing."""

    def share(job):
        seed = int(job.values[-1].removeprefix("seed="))
        return 0.05 if job.values[0] == name and seed >= first else SHARES[job.values[0]]

    monkeypatch.setattr(__name__ + ".share_of", share)


def test_a_collapse_takes_back_what_few_seeds_decided(launched, monkeypatch):
    collapse(monkeypatch, "good", 3)
    report = conducted("claims: [good > bad, good > same, bad > same]\nseeds: {first: 3, most: 9}\n")
    for pair in ("good bad", "good same"):
        assert "supported" not in verdicts(report)[pair]
    assert min(each["seeds"] for each in report["effects"]) >= 8


def test_where_a_seed_collapsed_and_eight_are_not_planned_no_further_seed_is_run(launched, monkeypatch):
    collapse(monkeypatch, "same", 0)
    conducted("claims: [good > bad, good > same]\nseeds: {first: 3, most: 6}\n")
    assert len(launched) == 9


def test_runs_of_before_are_told(launched):
    Path("study.yaml").write_text(BASE + ARMS + "seeds: {most: 3}\n")
    plan = "seeds: {most: 3}\n"
    conducted(plan)
    path = Path("outputs/studies/study/versions.json")
    (version,) = json.loads(path.read_text())
    path.write_text(json.dumps([version | {"since": "2999-01-01T00:00:00+00:00"}]))
    notes = texts(conducted(plan))
    assert any("9 of 9 runs had started before the study was first seen" in note for note in notes)
    notes = texts(conducted(plan + "alpha: 0.1\n"))  # one does not hide the other
    assert any("9 of 9 runs had started before the study was first seen" in note for note in notes)
    assert any("changed after runs had started" in note for note in notes)


@pytest.mark.parametrize("since", ['"yesterday"', '"2026-02-31T00:00:00+00:00"', '"2026-02-01T00:00:00"', "3", "null"])
def test_damaged_versions_are_one_line(launched, capsys, since):
    Path("study.yaml").write_text(BASE + ARMS)
    Path("outputs/studies/study").mkdir(parents=True)
    Path("outputs/studies/study/versions.json").write_text(f'[{{"digest": "a", "since": {since}, "file": "b"}}]')
    assert main(["study", "study.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "versions.json is not the versions of a study, or is damaged" in line
    assert not launched


def test_a_version_counts_from_its_first_run(launched, monkeypatch, capsys):
    def nothing(jobs, about, settings):
        raise KeyboardInterrupt

    content = "claims: [good > bad, bad > same]\nseeds: {most: 3}\n"
    Path("study.yaml").write_text(BASE + ARMS + content + "tune: {train.weight_decay: [-1]}\n")
    assert main(["study", "study.yaml"]) == 2
    assert not Path("outputs/studies").exists()
    assert any("since before its first run" in note for note in texts(conducted(content)))


def test_a_folder_is_one_files(launched, capsys):
    conducted("seeds: {most: 3}\n")
    Path("other").mkdir()
    Path("other/study.yaml").write_text(BASE + ARMS + "seeds: {most: 3}\n")
    assert main(["study", "other/study.yaml"]) == 2
    assert "other/study.yaml must have a name of its own, got outputs/studies/study" in capsys.readouterr().err


def test_a_run_of_another_process_is_waited_for(launched, monkeypatch, capsys):
    asked = []

    def busy(jobs, about, settings):
        asked.append(len(jobs))
        return [end_of(job) if len(asked) > 1 or i else Ended("elsewhere", "outputs/no") for i, job in enumerate(jobs)]

    monkeypatch.setattr(command, "_launched", busy)
    conducted("seeds: {most: 3}\n")
    assert asked == [9, 1]
    assert "outputs/no is another process's; waiting for it" in capsys.readouterr().out


def test_runs_on_other_rows_are_no_seeds_of_one_arm(launched, monkeypatch, capsys):
    def other_rows(jobs, about, settings):
        ends = [end_of(job) for job in jobs]
        record = records.read_record(Path(ends[-1].folder))
        record.data = {"train": {"fingerprint": "edited"}}
        records.write_record(Path(ends[-1].folder), record)
        return ends

    monkeypatch.setattr(command, "_launched", other_rows)
    Path("study.yaml").write_text(BASE + ARMS)
    assert main(["study", "study.yaml"]) == 2
    assert "the runs of an arm must be made from the same" in capsys.readouterr().err
