"""A claim is as old as the commit that wrote it last, which a clone does not reset, or else as its file."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from support.made_records import leave

from molex_cli.cli import main
from molex_cli.compare.hypotheses import read_claims
from molex_cli.compare.registration import written

FIRST, SECOND = "2020-01-01T00:00:00+00:00", "2021-01-01T00:00:00+00:00"


def git(folder, *arguments, when=FIRST):
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    times = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", *arguments], cwd=folder, env={**os.environ, **who, **times}, check=True, capture_output=True)


def commit(folder, text, when):
    (folder / "claims.yaml").write_text(text)
    git(folder, "add", "claims.yaml")
    git(folder, "commit", "-m", "claims", when=when)


def two_commits(folder):
    folder.mkdir()
    git(folder, "init", "-q")
    commit(folder, "- mola > lora on rte\n", FIRST)
    commit(folder, "- mola > lora on rte\n- claim: lora > mola on rte\n  seeds: [0, 1]\n", SECOND)
    return folder / "claims.yaml"


def test_each_claim_has_the_time_of_the_commit_that_changed_it_last():
    path = two_commits(Path("repo"))
    claims = read_claims(path)
    assert [each.lines for each in claims] == [range(1, 2), range(2, 4)]
    found = written(path, [each.lines for each in claims])
    assert [each.when for each in found] == [datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)]
    path.write_text(path.read_text().replace("seeds: [0, 1]", "seeds: [0, 2]"))
    again = written(path, [each.lines for each in read_claims(path)])
    assert [each.commit is None for each in again] == [False, True]
    assert again[1].when > datetime(2022, 1, 1, tzinfo=UTC)


def test_a_clone_resets_no_claim(capsys):
    two_commits(Path("repo"))
    git(Path(), "clone", "-q", "repo", "copy")
    for seed in (0, 1, 2):
        for method, share in (("lora", 0.6), ("mola", 0.9)):
            leave(Path(f"outputs/{method}-s{seed}"), method, seed, share, started="2020-06-01T00:00:00+00:00")
    assert main(["compare", "outputs", "--cols", "task", "--claims", "copy/claims.yaml"]) == 0
    shown = capsys.readouterr().out.splitlines()
    first, second, told = (line for line in shown if line.startswith("claim"))
    assert "had started" not in first
    assert "it was written or changed after seeds 0, 1, 2 had started" in second
    assert "claims.yaml has the digest sha256 " in told
    assert "is judged by commit" in told


def test_prescribed_seeds_are_those_that_both_arms_have(capsys):
    for seed in (0, 1, 2, 3):
        leave(Path(f"outputs/lora-s{seed}"), "lora", seed, 0.6)
    for seed in (0, 1, 2, 4):
        leave(Path(f"outputs/mola-s{seed}"), "mola", seed, 0.9)
    Path("claims.yaml").write_text("- {claim: mola > lora on rte, seeds: [0, 1, 2, 3]}\n")
    assert main(["compare", "outputs", "--cols", "task", "--claims", "claims.yaml"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("claim: ")]
    assert "seeds 3 are missing" in line
    assert "were added" not in line


def test_a_claim_without_common_seeds_says_so(capsys):
    leave(Path("outputs/lora"), "lora", 0, 0.6)
    leave(Path("outputs/mola"), "mola", 1, 0.9)
    Path("claims.yaml").write_text("- mola > lora on rte\n")
    assert main(["compare", "outputs", "--cols", "task", "--claims", "claims.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "mola > lora on rte: undecided, no seed in common" in shown
    assert "nan" not in shown
