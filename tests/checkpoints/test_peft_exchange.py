"""Runs in other programs' formats: the logits stay the same on the way to PEFT, from PEFT, and into one model."""

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import batch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.models.loading import load
from molex_cli.runtime import extras

LABELS = ["entailment", "not_entailment"]
MODELS = ["tiny_bert", "tiny_gpt2", "tiny_llama"]
every_model = pytest.mark.parametrize("model", MODELS)


@pytest.fixture
def moved(experiment):
    """Return a function that saves a model whose trained tensors are far from where they began, and returns it."""

    def make(*settings):
        chosen = experiment(*settings)
        made = adapter.adapt(chosen, LABELS)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(1)
            for p in made.trainable().values():
                p.add_(0.1 * torch.randn_like(p))
        Path("run").mkdir(exist_ok=True)
        adapter.save(Path("run/adapter-last.safetensors"), made, chosen, LABELS, step=3)
        return chosen, made.model.eval()

    return make


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert main([*arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def logits(model):
    with torch.no_grad():
        return model.eval()(**batch(num_rows=4, length=16)).logits


def theirs_on(model, peft, **changes):
    """Return PEFT's LoRA on a tiny model, moved away from where it began."""
    from molex_cli.config import command_line, overrides

    settings = overrides.checked(command_line.CommandLine(overrides=["experiment=smoke", f"model={model}"])).model
    backbone = load(settings, 2, seed=5)
    names = [linear.name for linear in backbone.targets(["all-linear"])]
    config = {"r": 4, "lora_alpha": 12, "target_modules": names, "fan_in_fan_out": model == "tiny_gpt2"} | changes
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        made = peft.get_peft_model(backbone.model, peft.LoraConfig(task_type="SEQ_CLS", **config))
        for p in made.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    return made


@every_model
@pytest.mark.parametrize(
    "method", ["lora", "peft/dora", "peft/ia3", "peft/vera", "peft/lokr"], ids=lambda name: name.replace("/", "-")
)
def test_peft_gives_an_exported_run_the_logits_it_had(moved, capsys, model, method):
    peft = pytest.importorskip("peft")
    if (method, model) == ("peft/lokr", "tiny_gpt2"):
        pytest.skip("PEFT's LoKr takes no Conv1D")
    settings, ours = moved(f"method={method}", f"model={model}")
    assert main(["export", "run", "--format", "peft", "--output", "theirs"]) == 0
    assert "its labels, in their order: entailment, not_entailment" in capsys.readouterr().out
    assert sorted(path.name for path in Path("theirs").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    plain = load(settings.model, 2, seed=9).model
    assert float((logits(plain) - logits(ours)).abs().max()) > 1e-3
    loaded = peft.PeftModel.from_pretrained(plain, "theirs")
    torch.testing.assert_close(logits(loaded), logits(ours), atol=1e-6, rtol=1e-6)


@every_model
@pytest.mark.parametrize("scaling", ["alpha_over_rank", "alpha_over_root_rank"])
@pytest.mark.parametrize("layers", [[0, 0, 1, 3], [2, 1, 1, 0], [4, 6, 0, 10]], ids=str)
def test_ranks_of_their_own_go_to_peft_and_back_and_into_one_model(moved, capsys, model, layers, scaling):
    peft = pytest.importorskip("peft")
    chosen = [f"method.allocation.layers={layers}", f"method.scaling={scaling}"]
    settings, ours = moved("method=lora", f"model={model}", *chosen)
    assert main(["export", "run", "--output", "theirs"]) == 0
    assert main(["merge", "run", "--output", "whole"]) == 0
    assert main(["import", "theirs", f"model={model}", "task=builtin/nli", "--output", "back"]) == 0
    assert "of rank" in capsys.readouterr().out.splitlines()[-1]
    loaded = peft.PeftModel.from_pretrained(load(settings.model, 2, seed=9).model, "theirs")
    saved, back = adapter.load(Path("back/adapter-last.safetensors"))
    whole = AutoModelForSequenceClassification.from_pretrained("whole")
    for other in (loaded, back.model, whole):
        torch.testing.assert_close(logits(other), logits(ours), atol=1e-5, rtol=1e-5)
    written = json.loads(Path("theirs/adapter_config.json").read_text())
    assert set(written["rank_pattern"].values()) == {8 * count for count in layers if count} - {8}
    assert not written["alpha_pattern"]
    assert written["use_rslora"] == (scaling == "alpha_over_root_rank")
    method = saved.experiment.method
    assert method.targets == ["all-linear"]
    assert (method.scaling.value, method.alpha) == (scaling, 16.0)
    assert method.rank_per_layer(4) == tuple(8 * count for count in layers)
    record = json.loads(Path("back/record.json").read_text())
    assert record["rank_per_layer"] == [8 * count for count in layers]


def test_mola_of_one_expert_or_none_a_layer_goes_to_peft_too(moved):
    peft = pytest.importorskip("peft")
    settings, ours = moved("method=mola", "method.allocation.layers=[0,1,0,1]", "method.top_k=1")
    assert main(["export", "run", "--output", "theirs"]) == 0
    loaded = peft.PeftModel.from_pretrained(load(settings.model, 2, seed=9).model, "theirs")
    torch.testing.assert_close(logits(loaded), logits(ours), atol=1e-6, rtol=1e-6)


def test_a_mola_run_of_single_experts_and_the_best_adapter_can_be_exported(moved):
    peft = pytest.importorskip("peft")
    settings, ours = moved("method=mola", "method.allocation.layers=[1,1,1,1]", "method.top_k=1")
    Path("run/adapter-last.safetensors").rename("run/adapter-best.safetensors")
    assert main(["export", "run", "--which", "best", "--output", "theirs"]) == 0
    loaded = peft.PeftModel.from_pretrained(load(settings.model, 2, seed=9).model, "theirs")
    torch.testing.assert_close(logits(loaded), logits(ours), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("method", ["mola_inverted", "mixlora", "molex", "bitfit"])
def test_what_is_no_lora_is_not_exported(moved, capsys, method):
    pytest.importorskip("peft")
    moved(f"method={method}")
    line = refusal(capsys, "export", "run", "--output", "theirs")
    assert f"must be given a run of LoRA, one expert and no router in each linear, got {method}" in line
    assert not Path("theirs").exists()


def test_a_language_model_goes_to_peft_and_back_and_into_one_model(experiment):
    peft = pytest.importorskip("peft")
    chosen = experiment("method=lora", "model=tiny_gpt2", "task=instruct/rte")
    made = adapter.adapt(chosen, LABELS)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for p in made.trainable().values():
            p.add_(0.1 * torch.randn_like(p))
    adapter.save(Path("run.safetensors"), made, chosen, LABELS, step=1)
    assert main(["export", "run.safetensors", "--output", "theirs"]) == 0
    assert main(["merge", "run.safetensors", "--output", "whole"]) == 0
    assert main(["import", "theirs", "model=tiny_gpt2", "task=instruct/rte", "--output", "run"]) == 0
    theirs = peft.PeftModel.from_pretrained(load(chosen.model, None, seed=9).model, "theirs")
    whole = AutoModelForCausalLM.from_pretrained("whole")
    _, back = adapter.load(Path("run/adapter-last.safetensors"))
    data = {name: tensor for name, tensor in batch().items() if name != "labels"}
    expected = made.model.eval()(**data).logits
    for model in (theirs, whole, back.model):
        torch.testing.assert_close(model.eval()(**data).logits, expected, atol=1e-5, rtol=1e-5)
    assert whole.config.use_cache


@pytest.mark.parametrize("model", ["tiny_roberta", "tiny_distilbert", "tiny_deberta"])
def test_heads_of_several_modules_go_along(moved, model):
    peft = pytest.importorskip("peft")
    settings, ours = moved("method=lora", f"model={model}")
    assert main(["export", "run", "--output", "theirs"]) == 0
    loaded = peft.PeftModel.from_pretrained(load(settings.model, 2, seed=9).model, "theirs")
    torch.testing.assert_close(logits(loaded), logits(ours), atol=1e-6, rtol=1e-6)


def test_nothing_is_written_over_and_a_missing_run_is_said(moved, capsys):
    moved("method=lora")
    Path("theirs").mkdir()
    Path("theirs/mine.txt").write_text("mine")
    for command in ("export", "merge"):
        line = refusal(capsys, command, "run", "--output", "theirs")
        assert "--output must be a new or empty folder, got theirs, which is there" in line
        assert "nowhere does not exist; " in refusal(capsys, command, "nowhere", "--output", "new")
    assert [path.name for path in Path("theirs").iterdir()] == ["mine.txt"]
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


@every_model
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True},
        {"layers_to_transform": [1, 2]},
        {"rank_pattern": {r".*\.1\..*": 8}},
        {"rank_pattern": {r".*\.1\..*": 8}, "use_rslora": True},
        {"r": 6, "rank_pattern": {r".*\.[12]\..*": 4}},
        {"r": 6, "rank_pattern": {r".*\.\d\..*": 4}, "use_rslora": True},
    ],
    ids=str,
)
def test_an_imported_adapter_gives_pefts_logits(capsys, model, changes):
    peft = pytest.importorskip("peft")
    theirs = theirs_on(model, peft, **changes)
    theirs.save_pretrained("theirs")
    arguments = [f"model={model}", "task=builtin/nli", "hardware=cpu"]
    assert main(["import", "theirs", *arguments[:2], "--output", "runs/theirs"]) == 0, capsys.readouterr().err
    saved, ours = adapter.load(Path("runs/theirs/adapter-last.safetensors"))
    torch.testing.assert_close(logits(ours.model), logits(theirs), atol=1e-6, rtol=1e-5)
    assert saved.labels == LABELS
    assert saved.experiment.method.rank == (2 if changes.get("r") == 6 and "use_rslora" not in changes else 4)
    if not changes:
        assert saved.experiment.method.targets == ["all-linear"]
        capsys.readouterr()
        assert main(["eval", "--json", "run=runs/theirs", "train.max_rows=8", "hardware=cpu"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["rows_used"] == 8


def test_an_imported_run_needs_no_peft_and_a_comparison_passes_it_over_with_a_line(capsys, monkeypatch):
    peft = pytest.importorskip("peft")
    theirs_on("tiny_bert", peft).save_pretrained("theirs")
    monkeypatch.setitem(sys.modules, "peft", None)
    assert main(["import", "theirs", "model=tiny_bert", "task=builtin/nli", "--output", "runs/theirs"]) == 0
    assert main(["train", "experiment=smoke", "method=lora", "train.max_steps=1", "output_dir=runs"]) == 0
    capsys.readouterr()
    assert main(["compare", "runs"]) == 0
    said = capsys.readouterr()
    assert "runs/theirs is imported" in " ".join((said.out + said.err).split())
    record = json.loads(Path("runs/theirs/record.json").read_text())
    assert record["parameters"]["adapters"] == 14_336 // 8 * 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, "must be plain LoRA to be imported, got use_dora=true in adapter_config.json"),
        ({"rank_pattern": {"query": 2}}, "must give all linears of a layer one rank, got 2, 4 in layer 0"),
        ({"alpha_pattern": {"query": 2}}, 'got alpha_pattern={"query": 2}'),
        ({"bias": "all"}, 'got bias="all"'),
        ({"init_lora_weights": "pissa"}, 'got init_lora_weights="pissa"'),
        (
            {"target_modules": "all-linear"},
            "inside the blocks alone, got bert.pooler.dense too, which is not adapted here; train it with "
            'exclude_modules=["bert.pooler.dense"] in PEFT\'s LoraConfig',
        ),
        ({"modules_to_save": ["word_embeddings"]}, "word_embeddings.weight too, which LoRA here does not train"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_lora_here_cannot_say_is_not_imported(capsys, changes, said):
    peft = pytest.importorskip("peft")
    theirs_on("tiny_bert", peft, **changes).save_pretrained("theirs")
    line = refusal(capsys, "import", "theirs", "model=tiny_bert", "task=builtin/nli", "--output", "run")
    assert said in line
    assert not Path("run").exists()


def test_an_adapter_that_does_not_fit_is_said_in_one_line(capsys):
    peft = pytest.importorskip("peft")
    theirs_on("tiny_bert", peft).save_pretrained("theirs")
    to = ["task=builtin/nli", "--output", "run"]
    other = refusal(capsys, "import", "theirs", "model=tiny_gpt2", *to)
    assert "theirs must match linears of tiny_gpt2, got bert.encoder.layer.0.attention.output.dense" in other
    assert "method must be left out, got method.rank=3" in refusal(capsys, "import", "theirs", "method.rank=3", *to)
    labels = refusal(capsys, "import", "theirs", "model=tiny_bert", "task=glue/mnli", "--output", "run")
    assert "must fit [3" in labels
    assert "got no adapter_config.json" in refusal(capsys, "import", "nowhere", "model=tiny_bert", *to)
    kind = peft.IA3Config(target_modules=["query"], feedforward_modules=[])
    kind.save_pretrained("theirs")
    assert "must be an adapter of LoRA, got IA3" in refusal(capsys, "import", "theirs", "model=tiny_bert", *to)


def test_an_adapter_without_a_head_is_not_imported(capsys):
    peft = pytest.importorskip("peft")
    theirs_on("tiny_bert", peft).save_pretrained("theirs")
    file = Path("theirs/adapter_model.safetensors")
    from safetensors.torch import load_file, save_file

    save_file({name: t for name, t in load_file(file).items() if "classifier" not in name}, file)
    line = refusal(capsys, "import", "theirs", "model=tiny_bert", "task=builtin/nli", "--output", "run")
    assert "got no base_model.model.classifier" in line


@every_model
@pytest.mark.parametrize(
    "settings",
    [
        ["method=lora"],
        ["method=bitfit"],
        ["method=full"],
        ["method=head"],
        ["method=mola", "method.allocation.layers=[1,1,1,1]", "method.top_k=1"],
        ["method=peft/dora"],
        ["method=peft/ia3"],
        ["method=peft/vera"],
    ],
    ids=lambda settings: settings[0].partition("=")[2].replace("/", "-"),
)
def test_a_merged_model_gives_the_logits_of_the_adapted_one(moved, capsys, model, settings):
    if "peft" in settings[0]:
        pytest.importorskip("peft")
    if (settings[0], model) == ("method=bitfit", "tiny_llama"):
        pytest.skip("Llama has no biases")
    _, ours = moved(*settings, f"model={model}")
    assert main(["merge", "run", "--output", "whole"]) == 0, capsys.readouterr().err
    whole = AutoModelForSequenceClassification.from_pretrained("whole")
    torch.testing.assert_close(logits(whole), logits(ours), atol=1e-5, rtol=1e-5)
    assert whole.config.id2label == dict(enumerate(LABELS))
    tokenizer = AutoTokenizer.from_pretrained("whole")
    assert tokenizer("a", "b")["input_ids"][0] == tokenizer.bos_token_id


@pytest.mark.parametrize("method", ["mola_inverted", "mixlora", "molex"])
def test_what_a_router_chooses_is_not_merged(moved, capsys, method):
    moved(f"method={method}")
    line = refusal(capsys, "merge", "run", "--output", "whole")
    assert "must be given a run without routers" in line
    assert "no one weight is equal to it" in line
    assert not Path("whole").exists()


@pytest.mark.parametrize("base", ["nf4", "bf16"])
def test_what_was_trained_on_rounded_weights_is_not_merged(moved, capsys, base):
    moved("method=lora", "hardware.precision=bf16", f"hardware.base={base}")
    line = refusal(capsys, "merge", "run", "--output", "whole")
    assert f"must be given a run on a base in fp32, got hardware.base={base}" in line


def test_without_peft_the_way_out_is_the_extra(moved, capsys, monkeypatch):
    moved("method=lora")
    monkeypatch.setitem(sys.modules, "peft", None)
    said = f"must have PEFT, got none; {extras.install('peft')}"
    assert said in refusal(capsys, "export", "run", "--output", "theirs")
    monkeypatch.setattr("molex_cli.methods.peft.find_spec", lambda name: None)
    assert f"method=peft/dora {said}" in refusal(capsys, "plan", "model=tiny_bert", "method=peft/dora")
