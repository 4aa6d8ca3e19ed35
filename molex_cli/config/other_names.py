"""Names by which settings are typed elsewhere, or were here before: each hints at today's name."""

from molex_cli.records.renamed import KINDS, TASK, TRAIN

# Those of transformers' TrainingArguments and of PEFT's LoraConfig.
HUGGING_FACE = {
    "per_device_train_batch_size": "train.batch_size",
    "per_device_eval_batch_size": "train.eval_batch_size",
    "num_train_epochs": "train.epochs",
    "lr_scheduler_type": "train.schedule",
    "eval_steps": "train.evaluate_every",
    "save_steps": "checkpoint_every",
    "logging_steps": "log.every",
    "max_seq_length": "train.max_length",
    "gradient_checkpointing": "hardware.activation_checkpointing",
    "torch_compile": "hardware.compile",
    "bf16": "hardware.precision",
    "report_to": "log.wandb",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "target_modules": "method.targets",
}
SETTINGS = {
    **HUGGING_FACE,
    **{f"train.{old}": f"train.{new}" for old, new in TRAIN.items()},
    **{f"task.{old}": f"task.{new}" for old, new in TASK.items()},
}
VALUES = {"task.kind": KINDS}


def today(key: str) -> str | None:
    """Return today's name of a setting, typed with its section or without; None for a name that nobody gave it."""
    by_last_part = {name.rpartition(".")[2]: new for name, new in SETTINGS.items()}
    return SETTINGS.get(key) or by_last_part.get(key.rpartition(".")[2])
