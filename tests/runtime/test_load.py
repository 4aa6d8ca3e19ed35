"""A measurement tells whether the machine was busy with something else."""

import pytest

from molex_cli.runtime import load


@pytest.mark.parametrize(
    ("before", "after", "is_busy"),
    [(0.2, 2.1, False), (1.0, 3.0, False), (1.1, 2.0, True), (0.0, 3.1, True), (None, None, False)],
)
def test_a_busy_machine_is_told(before, after, is_busy, monkeypatch):
    seen = iter([before, after])
    monkeypatch.setattr(load, "load_average", lambda: next(seen))
    found = load.Load(cores=2, before=load.load_average()).ended()
    assert (found.warning() is not None) == is_busy
    if is_busy:
        assert found.warning().startswith(f"busy: load average {before:.1f} before and {after:.1f} after on 2 cores; ")


def test_a_system_without_a_load_average_is_not_busy(monkeypatch):
    monkeypatch.delattr("os.getloadavg")
    assert load.load_average() is None
    assert load.cores() >= 1
