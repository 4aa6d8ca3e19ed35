"""`molex bench --inference`: the arms are what they say, and their figures are complete."""

import json

import pytest
import torch
from transformers import GenerationConfig

from molex_cli.cli import main
from molex_cli.cost import inference
from molex_cli.layers.experts import LowRankExperts
from molex_cli.methods.mola import MoLA
from molex_cli.models.loading import load

FEW = ["--inference", "--rounds", "1", "--rows", "2", "--tokens", "8", "--json"]
PAIRS = [(1.0, 1), (4.0, 2)]
THREE_ARMS = ["base", "lora merged", "lora unmerged"]


def models(experiment, model):
    """Return the model of every arm by name."""
    settings = experiment(f"model={model}")
    backbone = load(settings.model, None if inference.generates(settings.model) else 2, seed=0)
    arms = inference.setups(MoLA(), 8, PAIRS, [])
    return {arm.name: inference.answering_model(arm, backbone) for arm in arms}


def figures(capsys, *arguments):
    """Run the bench and return its one table, arms by name."""
    assert main(["bench", *FEW, *arguments]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    return table, {arm["name"]: arm for arm in table["arms"]}


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2", "tiny_llama"])
@torch.inference_mode()
def test_lora_merged_says_what_lora_unmerged_says_and_the_base_does_not(experiment, model):
    arms = models(experiment, model)
    ids = torch.randint(5, 250, (2, 12), generator=torch.Generator().manual_seed(0))
    said = {name: arms[name](input_ids=ids).logits for name in THREE_ARMS}
    away = {name: float((logits - said["lora unmerged"]).abs().max()) for name, logits in said.items()}
    assert away["lora merged"] < 1e-6
    assert away["base"] > 100 * away["lora merged"]


def test_lora_merged_is_made_of_the_same_modules_as_the_base(experiment):
    arms = models(experiment, "tiny_gpt2")
    kinds = {name: [type(module) for module in arms[name].modules()] for name in THREE_ARMS}
    assert kinds["lora merged"] == kinds["base"]
    assert LowRankExperts in kinds["lora unmerged"]


def test_arms_share_frozen_weights_and_leave_the_base_as_it_was(experiment):
    settings = experiment("model=tiny_bert")
    backbone = load(settings.model, 2, seed=0)
    before = {name: p.clone() for name, p in backbone.model.named_parameters()}
    _, merged, *_ = inference.setups(MoLA(), 8, PAIRS, [])
    model = inference.answering_model(merged, backbone)
    assert all(torch.equal(p, before[name]) for name, p in backbone.model.named_parameters())
    embedding = model.get_input_embeddings().weight
    assert embedding.data_ptr() == backbone.model.get_input_embeddings().weight.data_ptr()


def test_every_arm_has_the_experts_and_the_rank_that_its_name_says(experiment):
    arms = models(experiment, "tiny_bert")
    shapes = {
        name: {(m.num_experts, m.rank, m.fused.shape.top_k) for m in model.modules() if hasattr(m, "fused")}
        for name, model in arms.items()
    }
    assert shapes["lora unmerged"] == {(1, 8, 1)}
    assert shapes["1 expert, top 1"] == {(1, 8, 1)}
    assert shapes["4 experts, top 2"] == {(4, 8, 2)}


@pytest.mark.parametrize("model", ["tiny_gpt2", "tiny_llama"])
def test_the_tokens_that_are_timed_are_those_that_generate_writes(experiment, model):
    ids = torch.randint(5, 250, (2, 8), generator=torch.Generator().manual_seed(0))
    settings = GenerationConfig(max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)
    for name, arm in models(experiment, model).items():
        written = arm.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)[:, 8:]
        answer = inference.Answer(arm, ids, writes=True)
        for _ in range(2):  # each round begins anew
            answer.prompt()
            for _ in range(4):
                answer.token()
            assert torch.equal(torch.cat(answer.written, 1), written), name


def test_pairs_with_more_chosen_than_there_are_experts_are_left_out(capsys):
    table, arms = figures(capsys, "model=tiny_bert", "--experts", "1", "4", "--top-k", "1", "2")
    assert list(arms) == [*THREE_ARMS, "1 expert, top 1", "4 experts, top 1", "4 experts, top 2"]
    assert (arms["4 experts, top 2"]["experts"], arms["4 experts, top 2"]["top_k"]) == (4, 2)
    assert table["lora_rank"] == table["rank"] == 8


def test_every_measure_is_held_against_the_base_and_both_loras(capsys):
    arguments = ["model=tiny_gpt2", "--new-tokens", "2", "--training", "--experts", "2", "--methods", "bitfit"]
    table, arms = figures(capsys, *arguments)
    assert table["measures"] == ["prompt", "token", "training"]
    assert list(arms) == [*THREE_ARMS, "2 experts, top 1", "2 experts, top 2", "bitfit"]
    for name, arm in arms.items():
        assert list(arm["measures"]) == (["prompt", "token"] if name == "lora merged" else table["measures"])
        for measure, found in arm["measures"].items():
            others = THREE_ARMS if measure != "training" else ["base", "lora unmerged"]
            assert list(found["ratio"]) == others
            for other in others:
                base = arms[other]["measures"][measure]["milliseconds"]
                assert found["ratio"][other] == pytest.approx(found["milliseconds"] / base)


def test_a_decoder_without_biases_trains_against_its_head_alone(capsys):
    _, arms = figures(capsys, "model=tiny_llama", "--training", "--new-tokens", "1", "--experts", "2", "--top-k", "1")
    assert arms["base"]["measures"]["training"]["ratio"]["base"] == 1.0


def test_an_encoder_has_the_prompt_alone_and_the_table_says_why(capsys):
    arguments = [argument for argument in FEW if argument != "--json"]
    assert main(["bench", *arguments, "model=tiny_bert", "--experts", "2", "--top-k", "1"]) == 0
    shown = capsys.readouterr().out
    assert "Prompt" in shown
    assert "Each generated token" not in shown
    assert "tiny_bert is an encoder" in shown


def test_the_rank_of_lora_can_be_chosen(capsys):
    table, _ = figures(capsys, "model=tiny_bert", "--experts", "2", "--top-k", "1", "--lora-rank", "3", "method.rank=4")
    assert (table["rank"], table["lora_rank"]) == (4, 3)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_plot_is_a_file_of_the_kind_that_its_name_says(tmp_path, capsys, ending):
    path = tmp_path / f"cost.{ending}"
    figures(capsys, "model=tiny_bert", "--experts", "1", "2", "--plot", str(path))
    begin = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert path.read_bytes().startswith(begin)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--inference --experts 0", "--experts must be at least 1, got 0"),
        ("--inference --experts 2 --top-k 3", "--top-k must not exceed all of --experts, got 3 with 2"),
        ("--inference --lora-rank 0", "--lora-rank must be at least 1, got 0"),
        ("--inference --new-tokens 4", "--new-tokens must be left out with an encoder"),
        (
            "--inference --tokens 9999",
            "--tokens and --new-tokens must be at most 256 together with tiny_bert, got 9999",
        ),
        ("--inference --plot cost.gif", "--plot must end in png, svg or pdf, got cost.gif"),
        ("--inference --plot none/cost.svg", "--plot must be a file in a folder that is there, got none/cost.svg"),
        ("--inference --dropout 0", "--dropout must be left out with --inference"),
        ("--inference --no-memory", "--no-memory must be left out with --inference"),
        ("--inference method=lora", "method must be one of MoLA's with --inference, got lora"),
        ("--experts 2", "--experts must come with --inference"),
        ("--new-tokens 0", "--new-tokens must come with --inference"),
        ("--plot cost.svg", "--plot must come with --inference"),
    ],
)
def test_a_flag_that_does_not_fit_is_refused_in_one_line(capsys, arguments, words):
    assert main(["bench", "model=tiny_bert", *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_fractional_mean_allows_what_its_smallest_layer_has(capsys):
    _, arms = figures(capsys, "model=tiny_bert", "--experts", "1.5", "2.5", "--top-k", "2")
    assert list(arms) == [*THREE_ARMS, "2.5 experts, top 2"]
