"""How often a training step waits for its device: each wait lets what is queued on a GPU run dry."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from waits import waits, waits_of_step

SIZES = ["train.batch_size=4", "train.max_length=16"]


def own_waits(*settings, number=5):
    """Return our own waits of a step; transformers looks in each forward pass whether a mask is full."""
    return [at for at in waits_of_step([*SIZES, *settings], number).elements() if at.startswith("molex_cli/")]


made_once = pytest.mark.skipif(torch.cuda.is_available(), reason="what is made once is copied to a GPU then")


@pytest.mark.parametrize("number", [pytest.param(1, marks=made_once, id="first"), pytest.param(5, id="later")])
@pytest.mark.parametrize("method", ["lora", "mola_inverted", "mixlora", "bitfit"])
def test_a_step_waits_once_for_all_its_numbers(method, number):
    settings = ["model=tiny_bert", f"method={method}", "train.gradient_accumulation_steps=2"]
    (at,) = own_waits(*settings, number=number)
    assert at.startswith("molex_cli/training/loop.py:")


def test_a_layer_that_mixes_waits_once_for_its_guests():
    found = own_waits("model=tiny_bert", "method=molex")
    layers = [at for at in found if at.startswith("molex_cli/layers/mixing.py:")]
    assert len(found) == len(layers) + 1
    assert len(layers) == 4


def test_what_torch_reports_on_a_gpu_is_counted_and_nothing_is_reported_afterwards(monkeypatch):
    modes = []

    def report(mode):
        modes.append(mode)
        warnings.warn("the mode does not detect all synchronizing operations", stacklevel=1)

    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: True, set_sync_debug_mode=report))

    def fails_after_a_wait():
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
        raise KeyError

    with pytest.raises(KeyError), waits() as places:
        fails_after_a_wait()
    assert places == {"elsewhere": 1}
    assert modes == ["warn", "default"]
