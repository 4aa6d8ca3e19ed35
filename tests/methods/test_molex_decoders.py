"""MoLEx in decoders: the prompt chooses, and generating with a cache says what the whole forward pass says."""

import copy

import pytest
import torch
from support.mixing import spread
from transformers import (
    DynamicCache,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)
from waits import waits

from molex_cli.errors import MethodError
from molex_cli.models.structure import Backbone

SIZES = {"vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
WIDE = {**SIZES, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPES = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**SIZES, n_embd=32, n_layer=4, n_head=4, n_positions=128)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**WIDE, intermediate_size=64, max_position_embeddings=128)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**WIDE, intermediate_size=64, head_dim=8)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**WIDE, intermediate_size=64, sliding_window=6)),
}
every_shape = pytest.mark.parametrize("shape", SHAPES)
VARIANTS = {
    "molex": [],
    "gate_scales_the_guest": ["method.router_gradient=gate"],
    "molex_paper": ["method=molex_paper", "method.layers=all"],
}


@pytest.fixture
def language_model(experiment):
    def make(shape, *settings, seed=1):
        torch.manual_seed(0)
        method = experiment("method=molex", "method.alpha=0.5", *settings).method
        return spread(method.inject(Backbone(SHAPES[shape](), None, shape)), seed=seed)

    return make


def prompts(lengths=(9, 4, 6, 9, 2)):
    """Return prompts of unequal length, padded on the left."""
    torch.manual_seed(3)
    width = max(lengths)
    ids = torch.randint(2, 60, (len(lengths), width))
    mask = (torch.arange(width) >= width - torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def chosen(made):
    """Return the share of guests by layer since last asked."""
    return {layer: tuple(figures["usage"]) for layer, figures in made.take_routing().items()}


@every_shape
@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_generation_with_a_cache_gives_the_tokens_without(language_model, shape, variant):
    for seed in range(3):
        made = language_model(shape, *VARIANTS[variant], seed=seed)
        said = [
            made.model.generate(**prompts(), max_new_tokens=12, do_sample=False, use_cache=use_cache)
            for use_cache in (True, False)
        ]
        assert torch.equal(*said)
        assert len(set(said[0][:, -12:].flatten().tolist())) > 3


@every_shape
def test_beams_are_reordered_with_the_keys_of_their_guests(language_model, shape):
    made = language_model(shape)
    settings = {"max_new_tokens": 8, "num_beams": 4, "do_sample": False, "no_repeat_ngram_size": 2}
    said = [made.model.generate(**prompts(), **settings, use_cache=use_cache) for use_cache in (True, False)]
    assert torch.equal(*said)


@every_shape
def test_each_prompt_generates_alone_what_it_generates_in_a_batch(language_model, shape):
    made = language_model(shape)
    together = made.model.generate(**prompts(), max_new_tokens=8, do_sample=False)
    for row, length in enumerate((9, 4, 6, 9, 2)):
        alone = {name: tensor[row : row + 1, 9 - length :] for name, tensor in prompts().items()}
        assert torch.equal(
            made.model.generate(**alone, max_new_tokens=8, do_sample=False)[:, -8:], together[[row], -8:]
        )


@every_shape
def test_logits_of_cached_steps_equal_those_of_one_forward_pass_over_everything(language_model, shape):
    made = language_model(shape)
    made.model.double()
    given = prompts()
    answer = torch.randint(2, 60, (5, 7))
    whole = {
        "input_ids": torch.cat([given["input_ids"], answer], 1),
        "attention_mask": torch.cat([given["attention_mask"], torch.ones_like(answer)], 1),
    }
    positions = (whole["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    prompt_mask = torch.nn.functional.pad(given["attention_mask"], (0, 7))
    with torch.no_grad():
        expected = made.model(**whole, position_ids=positions, prompt_mask=prompt_mask, use_cache=False).logits[:, 9:]
        cache = DynamicCache()
        made.model(**given, position_ids=positions[:, :9], past_key_values=cache, use_cache=True)
        steps = [
            made.model(
                input_ids=answer[:, i : i + 1],
                attention_mask=whole["attention_mask"][:, : 10 + i],
                position_ids=positions[:, 9 + i : 10 + i],
                past_key_values=cache,
                use_cache=True,
            ).logits
            for i in range(7)
        ]
    torch.testing.assert_close(torch.cat(steps, 1), expected, atol=1e-9, rtol=1e-9)


@every_shape
def test_what_follows_the_prompt_never_changes_the_choice(language_model, shape):
    made = language_model(shape)
    given = prompts((9, 9, 9))
    labels, seen = None, []
    for seed in range(3):
        torch.manual_seed(seed)
        answer = torch.randint(2, 60, (3, 6))
        ids = torch.cat([given["input_ids"], answer], 1)
        labels = torch.cat([torch.full((3, 9), -100), answer], 1)
        made.model(input_ids=ids, labels=labels).loss.backward()
        seen.append(chosen(made))
    made.model(**given)
    assert seen == [chosen(made)] * 3
    # With loss on the prompt too, nothing tells where it ends: that must be said.
    with pytest.raises(MethodError, match="every row must have a prompt to choose layers from"):
        made.model(input_ids=ids, labels=ids)
    prompt_mask = (torch.arange(15) < 9).long().expand(3, 15)
    with waits() as found:
        made.model(input_ids=ids, labels=ids, prompt_mask=prompt_mask)
    assert not [at for at in found if "prompt_mask.py" in at]
    assert chosen(made) == seen[0]


@every_shape
def test_labels_that_leave_no_prompt_are_refused_with_padding_too(language_model, shape):
    made = language_model(shape)
    given = prompts()
    labels = given["input_ids"].masked_fill(given["attention_mask"] == 0, -100)
    with pytest.raises(MethodError, match="every row must have a prompt to choose layers from"):
        made.model(**given, labels=labels)


def test_a_prompt_mask_of_another_shape_is_refused(language_model):
    made = language_model("llama")
    with pytest.raises(MethodError, match=r"prompt_mask must be \[5, 9\], got \[5, 4\]"):
        made.model(**prompts(), prompt_mask=torch.ones(5, 4))


def test_a_prompt_in_chunks_is_refused(language_model):
    made = language_model("llama")
    with pytest.raises(MethodError, match="prefill_chunk_size must be null for MoLEx"):
        made.model.generate(**prompts(), max_new_tokens=3, prefill_chunk_size=4)


@every_shape
def test_generation_from_nothing_is_the_same_with_and_without_a_cache(language_model, shape):
    made = language_model(shape)
    said = [made.model.generate(max_new_tokens=15, do_sample=False, use_cache=use_cache) for use_cache in (True, False)]
    assert torch.equal(*said)


def test_a_copy_of_a_model_generates_with_its_own_weights(language_model):
    made = language_model("gpt2")
    other = copy.deepcopy(made.model)
    expected = made.model.generate(**prompts(), max_new_tokens=6, do_sample=False)
    with torch.no_grad():
        for p in made.model.parameters():
            p.zero_()
    assert torch.equal(other.generate(**prompts(), max_new_tokens=6, do_sample=False), expected)
    assert not torch.equal(made.model.generate(**prompts(), max_new_tokens=6, do_sample=False), expected)


def test_a_cache_that_cannot_hold_the_guests_is_refused(language_model):
    made = language_model("llama")
    with pytest.raises(MethodError, match=r"attention_mask must be \[5, 9\] for MoLEx, got .* static caches"):
        made.model.generate(**prompts(), max_new_tokens=3, cache_implementation="static")


@every_shape
def test_rows_of_a_cache_can_be_repeated_selected_and_cropped(language_model, shape):
    made = language_model(shape)
    given = prompts((9, 9, 9))
    rows = torch.tensor([2, 0, 1])
    with torch.no_grad():
        cache = DynamicCache(config=made.model.config)
        made.model(**{name: tensor[:, :7] for name, tensor in given.items()}, past_key_values=cache, use_cache=True)
        for layer in cache.layers:
            if hasattr(layer, "activate_past_recording"):
                layer.activate_past_recording()
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([5, 0, 3]))
        ahead = {"input_ids": given["input_ids"][rows, 7:], "attention_mask": given["attention_mask"][rows]}
        expected = made.model(**ahead, past_key_values=cache, use_cache=True).logits
        cache.crop(-2)
        again = made.model(**ahead, past_key_values=cache, use_cache=True).logits
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-5)
