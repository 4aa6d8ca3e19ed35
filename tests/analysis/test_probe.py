"""What a probe reads: the output of each layer, once."""

import pytest
import torch
from conftest import batch

from molex_cli.analysis import probe


@pytest.mark.parametrize("mixing", ["[1,2]", "[0]", "[3]", "all"])
def test_a_layers_call_as_a_guest_is_no_layers_output(adapted, mixing):
    """Blocks that do not mix are called by those that do."""
    made = adapted("method=molex", f"method.layers={mixing}", "method.alpha=0.5")
    blocks, given = made.backbone.blocks, []
    made.model.eval()
    for layer, vote in made.routers.items():
        vote.pinned = 0 if layer != 0 else 3  # a guest that is another layer, for all rows

    def keep(module, args, kwargs):
        given[:] = [args[1:], kwargs]

    inputs = batch()
    del inputs["labels"]
    with torch.no_grad(), probe.recorded(blocks) as layers:
        handle = blocks[1].register_forward_pre_hook(keep, with_kwargs=True)
        made.model.base_model(**inputs)
        handle.remove()
        found = list(layers)
    assert len(found) == len(blocks) + 1
    with torch.no_grad():
        for block, before, after in zip(blocks, found, found[1:], strict=False):
            output = block(before, *given[0], **given[1])
            torch.testing.assert_close(output[0] if isinstance(output, tuple) else output, after)


def test_a_score_that_no_constant_answer_has_is_drawn_without_one(tmp_path):
    """Matthews' correlation of a constant is undefined."""
    read = probe.Probe("mean", [{"matthews": 0.0}, {"matthews": 0.5}], [0.1, 0.6], {"accuracy": 0.7}, None)
    probe.drawn(read, "matthews", "glue/cola", tmp_path / "layers.png")
    assert (tmp_path / "layers.png").stat().st_size > 1000
