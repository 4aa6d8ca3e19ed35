"""Records of runs that never were."""

from pathlib import Path

import numpy as np

from molex_cli import records
from molex_cli.compare.loading import load
from molex_cli.compare.table import compare

EXAMPLES = 200


def leave(folder, *arguments, **changed):
    """Write the record of a run that never was."""
    record = made(*arguments, **changed)
    folder.mkdir(parents=True)
    records.write_record(folder, record)
    return record


def made(method="lora", seed=0, share=0.6, *, task="rte", status="finished", metric="accuracy", **changed):
    """Return the record of a run whose predictions are right with a probability of `share`."""
    stream = np.random.default_rng(seed + 1000)  # the seeds' own examples are easy or hard for every method
    easy = stream.random(EXAMPLES)
    rows = [{"id": str(i), "label": "yes", "prediction": "yes" if e < share else "no"} for i, e in enumerate(easy)]
    accuracy = sum(row["prediction"] == "yes" for row in rows) / EXAMPLES
    scores = {
        "step": 9,
        "epoch": 1.0,
        "loss": 0.5,
        "scores": {metric: accuracy},
        "correctness": records.correctness(rows),
    }
    settings = {
        "method": {"name": method, "published": False, "learning_rate": 1e-3},
        "task": {"name": task},
        "model": {"name": "minilm"},
        "train": {"epochs": 1.0},
        "hardware": {"device": "cpu", "precision": "fp32", "base": "fp32"},
        "seed": seed,
    }
    changed = {"settings": settings | changed.pop("settings", {}), "variant": f"{method}-{task}", **changed}
    return records.Record(
        **{
            "name": "a", "seed": seed, "status": status, "display": {"method": method.upper()},
            "scores": {"metric": metric, "last": scores, "best": scores, "selection": "the best is the highest",
                       "constant": {metric: 0.1}},
            "parameters": {"trainable": 1000, "added": 990, "routers": 30, "head": 10},
            "flops_per_token": {"active": 2e6},
            "training": {"tokens_per_second": 1200.0, "tokens": 5000, "seconds": 40.0},
            "memory_bytes": {"cpu": 5 * 10**8},
            "data": {"train": {"fingerprint": "f"}},
            "environment": {"packages": {"torch": "2.13.0"}, "git": {"commit": "c", "dirty": False}},
            **changed,
        }
    )  # fmt: skip


def outputs(*, seeds=(0, 1, 2), **shares):
    """Write runs of some methods with different chances to be right; return their folder."""
    for method, share in shares.items():
        for seed in seeds:
            leave(Path(f"outputs/{method}-s{seed}"), method, seed, share)
    return Path("outputs")


def table_of(folder, rows=("method",), cols=("task",), which="last", against=None):
    return compare(load([folder]).runs, list(rows), list(cols), which, against)
