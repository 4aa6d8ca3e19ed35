"""A claim is as old as the commit since which it stands there, which a clone does not reset, or else as its file."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from support.made_records import leave

from molex_cli.cli import main
from molex_cli.compare.hypotheses import read_claims
from molex_cli.compare.registration import registered

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


def found_in(path):
    return registered(path, read_claims(path))


def test_each_claim_has_the_time_of_the_commit_since_which_it_stands_there():
    path = two_commits(Path("repo"))
    first, second = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    assert [each.when for each in found_in(path).written] == [first, second]
    path.write_text(path.read_text().replace("seeds: [0, 1]", "seeds: [0, 2]"))
    again = found_in(path).written
    assert [each.commit is None for each in again] == [False, True]
    assert again[1].when > datetime(2022, 1, 1, tzinfo=UTC)


def test_a_claim_keeps_its_time_when_only_its_form_or_its_place_changes():
    path = two_commits(Path("repo"))
    text = "# a list\n- {claim: lora > mola on rte, seeds: [0, 1]}\n- mola  >  lora on rte\n"
    commit(path.parent, text, "2022-01-01T00:00:00+00:00")
    git(path.parent, "mv", "claims.yaml", "renamed ü.yaml")
    git(path.parent, "commit", "-m", "named", when="2023-01-01T00:00:00+00:00")
    (path.parent / "link.yaml").symlink_to("renamed ü.yaml")
    for name in ("renamed ü.yaml", "link.yaml"):
        assert [each.when.year for each in found_in(path.parent / name).written] == [2021, 2020]


def test_a_claim_that_was_away_is_as_old_as_its_return():
    path = two_commits(Path("repo"))
    text = path.read_text()
    commit(path.parent, "- mola > lora on rte\n", "2022-01-01T00:00:00+00:00")
    assert found_in(path).gone == ["lora > mola on rte"]
    assert "earlier versions had claims that it lacks: lora > mola on rte" in found_in(path).told()
    commit(path.parent, "- broken: [\n", "2023-01-01T00:00:00+00:00")
    git(path.parent, "rm", "claims.yaml")
    git(path.parent, "commit", "-m", "away", when="2023-06-01T00:00:00+00:00")
    commit(path.parent, text, "2024-01-01T00:00:00+00:00")
    found = found_in(path)
    assert [each.when.year for each in found.written] == [2024, 2024]
    assert not found.gone


def test_another_repository_of_the_environment_says_nothing(monkeypatch):
    path = two_commits(Path("repo"))
    Path("other").mkdir()
    git(Path("other"), "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(Path("other/.git").resolve()))
    monkeypatch.setenv("GIT_WORK_TREE", str(Path("other").resolve()))
    assert all(each.commit for each in found_in(path).written)


def test_a_shallow_clone_is_told():
    path = two_commits(Path("repo"))
    assert "shallow" not in found_in(path).told()
    git(Path(), "clone", "-q", "--depth", "1", path.parent.resolve().as_uri(), "copy")
    assert "a shallow clone, which lacks what was before" in found_in(Path("copy/claims.yaml")).told()


def test_a_clone_resets_no_claim(capsys):
    two_commits(Path("repo"))
    git(Path(), "clone", "-q", "repo", "copy")
    for seed in (0, 1, 2):
        for method, share in (("lora", 0.6), ("mola", 0.9)):
            leave(Path(f"outputs/{method}-s{seed}"), method, seed, share, started="2020-06-01T00:00:00+00:00")
    assert main(["compare", "outputs", "--cols", "task", "--claims", "copy/claims.yaml"]) == 0
    shown = capsys.readouterr().out.splitlines()
    first, second, told = (line for line in shown if " > " in line or "claims.yaml" in line)
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
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  mola > lora on rte: ")]
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
