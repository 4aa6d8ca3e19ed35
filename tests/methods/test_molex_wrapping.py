"""What wrapping a model's blocks must leave whole, and the models and calls that MoLEx refuses."""

import copy

import pytest
import torch
from conftest import batch
from support.mixing import MODELS, spread
from torch import nn
from transformers import BloomConfig, BloomForSequenceClassification

from molex_cli.errors import MethodError
from molex_cli.layers.guest_vote import NONE
from molex_cli.models.structure import Backbone
from molex_cli.runtime.hardware import random_stream


def test_token_level_is_refused_for_decoders(adapted):
    with pytest.raises(MethodError, match=r"method\.level must be sequence or batch for a decoder, got token"):
        adapted("method=molex", "model=tiny_gpt2", "method.level=token")


def test_a_model_with_layers_of_two_kinds_is_refused(adapted):
    with pytest.raises(MethodError, match="must have layers of one kind, got full_attention, sliding_attention"):
        adapted(
            "method=molex",
            "model=tiny_qwen",
            "+model.config.use_sliding_window=true",
            "+model.config.sliding_window=8",
            "+model.config.max_window_layers=2",
        )


def test_guests_that_leave_nothing_to_mix_are_refused(adapted):
    with pytest.raises(MethodError, match="must leave some mixing layer a guest other than itself"):
        adapted("method=molex", "method.layers=[3]", "method.guests=later")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", ["molex", "molex_paper"])
def test_activation_checkpointing_gives_equal_gradients_with_dropout_on(adapted, model, method):
    found = []
    for checkpointing in (False, True):
        made = spread(adapted(f"method={method}", f"model={model}", "method.lora.dropout=0.2"))
        if checkpointing:
            made.model.gradient_checkpointing_enable()
        made.model.train()
        with random_stream(0, "dropout"):
            found.append(balanced_gradients(made, batch(num_rows=6, length=16)))
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-6, rtol=1e-5, msg=name)
    assert any(gradient.any() for name, gradient in found[0].items() if ".gate." in name)


def balanced_gradients(made, data):
    (made.model(**data).loss + 0.01 * made.auxiliary_loss()).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in made.trainable().items()}


def test_a_model_cast_to_bfloat16_still_counts_every_vote(adapted):
    """256 and 257 are the same number in bfloat16."""
    made = adapted("method=molex", "method.layers=[0]").model
    block = made.bert.encoder.layer[0].bfloat16()
    with torch.no_grad():
        block.gate.weight.zero_()
        block.gate.weight[0, 0] = block.gate.weight[1, 1] = 1.0
    z = torch.zeros(1, 513, 32, dtype=torch.bfloat16)
    z[:, :256, 0] = z[:, 256:, 1] = 1.0
    assert block.vote.choose(block.gate(z), torch.ones(1), NONE).guest.tolist() == [[1]]


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2"])
def test_a_copy_of_a_model_leaves_padding_out_by_itself(adapted, model):
    made = spread(adapted("method=molex", f"model={model}", "method.alpha=0.5"), 0.1)
    made.model(**batch()).loss.backward()  # a copy must be possible after a training step too
    other = copy.deepcopy(made.model)
    data = {name: tensor for name, tensor in batch(num_rows=8, length=20).items() if name != "labels"}
    wider = {name: nn.functional.pad(tensor, (0, 25)) for name, tensor in data.items()}
    expected = made.model(**data).logits
    with torch.no_grad():
        for p in made.model.parameters():
            p.zero_()
    torch.testing.assert_close(other(**data).logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other(**wider).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_llama"])
def test_padding_has_no_vote_in_the_base_model_called_alone(adapted, model):
    base = spread(adapted("method=molex", f"model={model}", "method.alpha=0.5"), 0.1).model.base_model
    data = {name: tensor for name, tensor in batch(num_rows=8, length=20).items() if name != "labels"}
    wider = {name: nn.functional.pad(tensor, (0, 25)) for name, tensor in data.items()}
    real = data["attention_mask"].bool()
    narrow, wide = base(**data).last_hidden_state, base(**wider).last_hidden_state[:, :20]
    torch.testing.assert_close(wide[real], narrow[real], atol=1e-5, rtol=1e-4)


def test_hidden_states_that_would_mix_up_hosts_and_guests_are_refused(adapted):
    made = adapted("method=molex")
    with pytest.raises(MethodError, match="output_hidden_states must be off for MoLEx"):
        made.model(**batch(), output_hidden_states=True)
    with pytest.raises(MethodError, match="output_attentions must be off for MoLEx"):
        made.model(**batch(), output_attentions=True)
    made.model.config.output_hidden_states = True
    with pytest.raises(MethodError, match="output_hidden_states must be off for MoLEx"):
        made.model(**batch())


def test_a_mask_that_fits_no_tokens_is_refused(adapted):
    made = adapted("method=molex")
    data = batch(num_rows=8)
    with pytest.raises(MethodError, match=r"attention_mask must be \[8, 12\] for MoLEx, got \[1, 12\]"):
        made.model(input_ids=data["input_ids"], attention_mask=data["attention_mask"][:1])


def test_a_model_with_molex_in_it_is_not_mixed_again(adapted, experiment):
    made = adapted("method=molex")
    with pytest.raises(MethodError, match="must be put into a plain model, got MoLEx in tiny_bert"):
        experiment("method=molex").method.inject(made.backbone)


def test_a_family_whose_rows_cannot_be_told_is_refused(experiment):
    model = BloomForSequenceClassification(BloomConfig(vocab_size=60, hidden_size=32, n_layer=4, n_head=4))
    made = spread(experiment("method=molex").method.inject(Backbone(model, None, "bloom")))
    model.config.pad_token_id = 0
    with pytest.raises(MethodError, match="this model's family cannot be mixed"):
        made.model(**batch(num_rows=5, vocabulary=60))
