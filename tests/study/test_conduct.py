"""A study from first to last: what it asks for, what it concludes, and that it resumes; runs that never were."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.made_records import leave

from molex_cli.cli import main
from molex_cli.cli import study as command
from molex_cli.study.runs import Ended

BASE = "base: [model=tiny_bert, train.max_rows=64, train.selection=0.2, log.wandb=disabled]\n"
ARMS = "arms: {good: [method=lora], bad: [method=bitfit], same: [method=head]}\n"
SHARES = {"good": 0.8, "bad": 0.5, "same": 0.5}


@pytest.fixture
def launched(monkeypatch):
    """Leave records in place of runs; return the list of what was launched."""
    asked = []

    def launch(jobs, about, settings):
        return [run_of(job) for job in jobs]

    def run_of(job):
        name, *tried, seed = job.values
        asked.append(" ".join(job.values))
        seed = int(seed.removeprefix("seed="))
        rate = float(tried[0].partition("=")[2]) if tried else 0.0
        share = SHARES[name] + 0.01 * np.random.default_rng([seed, len(name)]).standard_normal()
        folder = Path(f"outputs/made-{'-'.join(job.values).replace('/', '-')}")
        if folder.exists():
            return Ended("finished", str(folder))
        record = leave(folder, job.experiment.method.name, seed, share, task="nli")
        if rate == 9:
            record.status, record.error = "failed", {"type": "TrainingError", "message": "loss must be finite, got nan"}
        for which in ("last", "best"):
            record.scores[which]["selection"] = {"accuracy": 1 - abs(rate - 0.002)}
        command_records.write_record(folder, record)
        return Ended(record.status, str(folder), record.error and record.error["message"])

    monkeypatch.setattr(command, "_launched", launch)
    return asked


def conducted(content, *arguments):
    Path("study.yaml").write_text(BASE + ARMS + content)
    assert main(["study", "study.yaml", *arguments]) == 0
    return json.loads(Path("outputs/studies/study/study.json").read_text())


def verdicts(report):
    return {f"{each['one']} {each['other']}": each["verdict"] for each in report["effects"]}


def test_seeds_go_only_to_arms_of_open_claims(launched):
    report = conducted("claims: [good > bad, bad > same]\nseeds: {first: 3, most: 6}\n")
    assert verdicts(report)["good bad"] == "supported"
    assert verdicts(report)["bad same"].startswith("undecided")
    seeds = {name: sum(text.startswith(name) for text in launched) for name in SHARES}
    assert seeds["good"] < seeds["bad"] == seeds["same"]
    assert len(set(launched)) == len(launched)


def test_a_claim_may_be_contradicted_and_pairs_say_who_is_better(launched):
    assert verdicts(conducted("claims: [bad > good]\nseeds: {most: 4}\n")) == {"bad good": "contradicted"}
    report = conducted("seeds: {most: 4}\n")
    assert verdicts(report)["good bad"] == "good is better"
    assert verdicts(report)["bad same"].startswith("undecided after all 4 seeds")
