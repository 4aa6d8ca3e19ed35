"""Families whose lowest layers cannot be left out: a trial on a few rows sees it, and says why."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from molex_cli.models.frozen_prefix import FrozenPrefix
from molex_cli.models.frozen_trial import misfit
from molex_cli.models.loading import load
from molex_cli.models.settings import Model

SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
SIZES |= {"max_position_embeddings": 256}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LLAMA = SIZES | {"num_key_value_heads": 2}


def prefix(family, config):
    """Return the frozen layers of a random model of which the head alone trains."""
    torch.manual_seed(0)
    backbone = load(Model(name=family, random=True, config={"model_type": family} | config), 2, 0)
    head = backbone.head()
    for name, parameter in backbone.model.named_parameters():
        parameter.requires_grad_(name in head)
    backbone.model.eval()
    return FrozenPrefix(backbone, set(), rows(backbone))


def rows(backbone, lengths=(8, 12, 16)):
    ids = torch.randint(5, 250, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids.where(mask.bool(), backbone.tokenizer.pad_token_id), "attention_mask": mask}


def tried(found):
    return misfit(found, rows(found.backbone), 24, 5e-5)


REFUSED = {
    "fnet": (SIZES | {"hidden_dropout_prob": 0.0}, "see padding"),
    "convbert": (SIZES | STILL | {"embedding_size": 32}, "see padding"),
    "albert": (SIZES | STILL | {"embedding_size": 16}, "without its layers outputs are off"),
    "xlnet": ({"d_model": 32, "n_layer": 4, "n_head": 4, "d_inner": 64, "dropout": 0.0}, "something else than hidden"),
    "canine": (SIZES | STILL, "its "),
    "longformer": (SIZES | STILL | {"attention_window": [8] * 4}, "something else than hidden"),
}


@pytest.mark.parametrize("family", REFUSED)
def test_families_whose_layers_cannot_be_left_out_are_refused_in_words(family):
    config, reason = REFUSED[family]
    assert reason in tried(prefix(family, config))


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_families_whose_layers_can_be_left_out_are_not_refused(family):
    assert tried(prefix(family, LLAMA if family == "llama" else SIZES | STILL)) == ""


@pytest.mark.parametrize("kind", ["dynamic", "linear"])
def test_positions_that_depend_on_the_longest_row_are_refused(kind):
    rope = {"rope_type": kind, "factor": 2.0, "rope_theta": 10000.0}
    assert ("longest row" in tried(prefix("llama", LLAMA | {"rope_parameters": rope}))) == (kind == "dynamic")


def test_hidden_states_are_those_of_a_pass_of_the_whole_model():
    found = prefix("longformer", SIZES | STILL | {"attention_window": [8] * 4})
    inputs, caught = rows(found.backbone), []
    hook = found.backbone.blocks[-1].register_forward_hook(lambda block, args, output: caught.append(output[0]))
    with torch.no_grad():
        found.backbone.model(**inputs)  # its head adds global attention
    hook.remove()
    assert torch.equal(found.hidden_states(inputs), caught[0])


def test_one_large_activation_hides_no_error_elsewhere():
    found = prefix("llama", LLAMA)
    inputs = rows(found.backbone)
    real, calls = found.hidden_states, []

    def spoiled(given):
        calls.append(given)
        states = real(given).clone()
        states[:, 0] *= 1e6
        if len(calls) == 1:
            states[:, 3] += 0.01 * states[:, 3].flip(-1)
        return states

    found.hidden_states = spoiled
    assert misfit(found, inputs, 16, 5e-5)


def test_the_scales_of_quantised_weights_make_another_prefix():
    found = prefix("llama", LLAMA)
    weight = found.backbone.blocks[0].self_attn.q_proj.weight
    assert isinstance(weight, nn.Parameter)
    hashes = set()
    for scale in (1.0, 2.0):
        weight.quant_state = SimpleNamespace(as_dict=lambda packed, s=scale: {"absmax": torch.tensor([s])})
        hashes.add(found.identity())
    assert len(hashes) == 2
