"""The reload check compares the trained model with the one rebuilt from the file."""

from types import SimpleNamespace

import pytest
import torch

from molex_cli.checkpoints import adapter


@pytest.mark.parametrize(("reloaded", "passed"), [(1.0, True), (1.5, False)])
def test_the_check_fails_where_the_rebuilt_model_says_something_else(reloaded, passed, tmp_path, monkeypatch):
    def model(value):
        weights = {"weight": torch.zeros(1)}
        return SimpleNamespace(trainable=lambda: weights, model=torch.nn.Linear(1, 1), value=value)

    rows = SimpleNamespace(ids=[[1], [2]], first=lambda count: rows)
    objective = SimpleNamespace(values=lambda adapted, *_: torch.tensor([adapted.value]))
    monkeypatch.setattr(adapter, "load", lambda path, cache_dir: (None, model(reloaded)))
    report = adapter.reload_check(tmp_path, model(1.0), objective, rows, 1, lambda fresh: None)
    assert report["passed"] is passed
    assert report["max_difference"] == pytest.approx(abs(reloaded - 1.0))
