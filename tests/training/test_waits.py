"""How often a training step waits for its device: each wait lets what is queued on a GPU run dry."""

import pytest
from waits import waits_of_step

SIZES = ["train.batch_size=4", "train.max_length=16"]


def own_waits(*settings, number=5):
    """Return our own waits of a step; transformers looks in each forward pass whether a mask is full."""
    return [at for at in waits_of_step([*SIZES, *settings], number).elements() if at.startswith("molex_cli/")]


@pytest.mark.parametrize("number", [1, 5], ids=["first", "later"])
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
