"""The presets of the papers are what the published scripts pass, typed here a second time."""

import pytest

from molex_cli.config import command_line, overrides
from molex_cli.config.schema import Experiment, as_data
from molex_cli.methods.ledger import ledger
from molex_cli.models.loading import skeleton

# MoLEx's GLUE scripts: rate, epochs, batch of a process, processes, warm-up, seed, gate and its size, one for each
# layer, alpha and how it is learned, balance, the gate's rate and decay; then the numbers that gates and alphas train.
GLUE = {
    "mnli": (5e-4, 30, 16, 8, 0.06, 0, "cosine", 416, False, 0.5, "softmax", 0.005, 5e-5, 0.0, 324_897 + 2),
    "sst2": (5e-4, 60, 16, 8, 0.06, 10, "cosine", 128, False, 0.5, "fixed", 0.01, 0.1, 0.1, 99_969),
    "mrpc": (4e-4, 30, 16, 8, 0.10, 0, "linear", None, False, 0.5, "softmax", 0.0, 0.1, 0.1, 9_228 + 2),
    "cola": (4e-4, 80, 32, 2, 0.06, 5, "linear", None, False, 0.95, "fixed", 0.01, 5e-5, 0.0, 9_228),
    "qnli": (4e-4, 25, 32, 8, 0.06, 0, "cosine", 96, False, 0.5, "softmax", 0.0, 0.1, 0.1, 74_977 + 2),
    "qqp": (5e-4, 25, 16, 8, 0.06, 0, "cosine", 384, False, 0.5, "softmax", 0.001, 0.1, 0.1, 299_905 + 2),
    "rte": (5e-4, 80, 32, 8, 0.06, 10, "linear", None, True, 0.5, "fixed", 0.001, 0.1, 0.1, 110_736),
    "stsb": (4e-4, 40, 16, 8, 0.06, 0, "linear", None, True, 0.5, "fixed", 0.001, 0.1, 0.1, 110_736),
}
TRAIN = ("learning_rate", "epochs", "batch_size", "gradient_accumulation_steps", "warmup_ratio")
METHOD = ("gate", "gate_dim", "gate_per_layer", "alpha", "alpha_form", "balance", "gate_learning_rate")
PUBLISHED_VOTE = {"level": "batch", "voters": "all", "count_padding": True, "attend_padding": True}


def preset(name: str, *more: str) -> Experiment:
    return overrides.checked(command_line.CommandLine(overrides=[f"experiment={name}", *more]))


def parts(made: Experiment, outputs: int | None) -> dict[str, int]:
    return ledger(made.method.inject(skeleton(made.model, outputs)), 64).parameters


def test_there_is_a_preset_for_each_published_glue_script_and_it_is_here() -> None:
    found = [name for name in command_line.options("experiment") if name.startswith("papers/molex_glue/")]
    assert found == [f"papers/molex_glue/{task}" for task in sorted(GLUE)]


@pytest.mark.parametrize("task", GLUE)
def test_a_glue_preset_of_molex_has_the_published_values(task: str) -> None:
    made = preset(f"papers/molex_glue/{task}")
    data, row = as_data(made), GLUE[task]
    train, method = data["train"], data["method"]
    assert [train[name] for name in TRAIN] == list(row[:5])
    assert made.seed == row[5]
    assert [method[name] for name in (*METHOD, "gate_weight_decay")] == list(row[6:14])
    assert method["gate_over_tokens"] == (row[6] == "cosine")
    assert (train["weight_decay"], train["decay_biases_and_norms"]) == (0.1, False)
    assert (train["max_length"], method["pad_to"], train["eval_batch_size"], train["schedule"]) == (
        512,
        512,
        8,
        "linear",
    )
    assert (train["warmup_steps"], train["label_smoothing"], train["adam_epsilon"]) == (None, 0.0, 1e-8)
    lora = method["lora"]
    assert (lora["rank"], lora["alpha"], lora["dropout"], lora["same_start"]) == (8, 16.0, 0.0, False)
    assert (data["model"]["name"], data["task"]["name"], method["name"]) == (
        "roberta_base",
        f"glue/{task}",
        "molex_paper",
    )
    assert PUBLISHED_VOTE.items() <= method.items()
    assert method["balance_sum"]
    assert method["compute_self"]
    assert method["router_gradient"] == "none"
    counted = parts(made, 2)
    assert counted["adapters"] == 294_912
    assert counted["gates"] + counted.get("alphas", 0) == row[14]


def test_the_e2e_preset_of_molex_has_the_published_values() -> None:
    made = preset("papers/molex_e2e")
    data = as_data(made)
    wanted = {
        "epochs": 5.0,
        "batch_size": 8,
        "gradient_accumulation_steps": 1,
        "learning_rate": 2e-4,
        "weight_decay": 0.01,
        "decay_biases_and_norms": True,
        "warmup_ratio": None,
        "warmup_steps": 500,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-6,
        "label_smoothing": 0.1,
        "max_grad_norm": None,
        "max_length": 512,
        "schedule": "linear",
        "eval_batch_size": 1,
    }
    assert wanted.items() <= data["train"].items()
    method = data["method"]
    assert PUBLISHED_VOTE.items() <= method.items()
    assert {
        "rank": 4,
        "alpha": 32.0,
        "dropout": 0.1,
        "joint_parts": ["query", "value"],
        "same_start": True,
    }.items() <= (method["lora"].items())
    assert {"gate": "linear", "alpha": 0.95, "alpha_form": "fixed", "balance": 0.01, "pad_to": 512}.items() <= (
        method.items()
    )
    assert (method["gate_learning_rate"], method["gate_weight_decay"], made.seed) == (0.01, 0.1, 96)
    assert data["model"]["dropout"] == 0.0
    language = data["task"]["language"]
    assert (language["beams"], language["length_penalty"], language["no_repeat_ngram"]) == (10, 0.8, 4)
    counted = parts(made, None)
    assert (counted["adapters"], counted["gates"]) == (393_216, 24_600)


def test_the_preset_of_mola_has_the_published_values() -> None:
    made = preset("papers/mola/rte")
    data = as_data(made)
    train, method = data["train"], data["method"]
    assert (train["batch_size"] * train["gradient_accumulation_steps"], train["max_length"]) == (128, 256)
    assert (train["warmup_steps"], train["warmup_ratio"], train["weight_decay"]) == (100, None, 0.0)
    assert (made.learning_rate, made.seed) == (3e-4, 10)
    assert (method["rank"], method["alpha"], method["dropout"], method["top_k"]) == (8, 16.0, 0.05, 2)
    assert method["dropout_per_expert"]
    assert method["balance"] == 0
    assert parts(made, None)["added"] == 105_635_840
