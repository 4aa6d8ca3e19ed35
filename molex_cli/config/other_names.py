"""Names by which settings are typed elsewhere, or were here before: each hints at today's name."""

from collections.abc import Collection

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
}
LORA = {"lora_alpha": "alpha", "lora_dropout": "dropout", "target_modules": "targets"}
SETTINGS = {
    **HUGGING_FACE,
    **{f"train.{old}": f"train.{new}" for old, new in TRAIN.items()},
    **{f"task.{old}": f"task.{new}" for old, new in TASK.items()},
}
VALUES = {"task.kind": KINDS}


def today(key: str, settings: Collection[str]) -> str | None:
    """Return today's name, among the settings there are, of one typed with its section or without; None for others."""
    last = key.rpartition(".")[2]
    if last in LORA:  # MoLEx has its own alpha beside that of the LoRA inside its layers
        candidates = [f"method.lora.{LORA[last]}", f"method.{LORA[last]}"]
    else:
        candidates = [new for old, new in SETTINGS.items() if old == key or old.rpartition(".")[2] == last]
    return next((name for name in candidates if name in settings), None)
