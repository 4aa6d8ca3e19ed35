"""The hub is asked once, quickly, and what cannot be asked is unreachable."""

import pytest

from molex_cli.models import hub


@pytest.mark.parametrize(
    "address", ["https://user:hunter2@127.0.0.1", "http://127.0.0.1:hunter2", "nothing", "no://where"]
)
def test_an_address_that_cannot_be_asked_is_unreachable_and_told_nowhere(address, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr(hub, "is_set_offline", lambda: False)
    monkeypatch.setattr(hub, "_stay_offline", lambda: None)
    assert hub.go_offline_if_unreachable() is False
    assert "hunter2" not in "".join(capsys.readouterr())
