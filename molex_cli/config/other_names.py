"""Names by which settings are typed elsewhere, or were here before: each hints at today's name."""

import difflib
from collections.abc import Collection

from molex_cli.records.renamed import KINDS, TASK, TRAIN

# Those of transformers' TrainingArguments and of PEFT's LoraConfig.
HUGGING_FACE = {
    "per_device_train_batch_size": "train.batch_size",
    "per_device_eval_batch_size": "train.eval_batch_size",
    "per_gpu_train_batch_size": "train.batch_size",
    "auto_find_batch_size": "train.batch_size",
    "num_train_epochs": "train.epochs",
    "lr_scheduler_type": "train.schedule",
    "label_smoothing_factor": "train.label_smoothing",
    "eval_steps": "train.evaluate_every",
    "eval_strategy": "train.evaluate_every",
    "evaluation_strategy": "train.evaluate_every",
    "eval_on_start": "train.evaluate_at_start",
    "save_steps": "checkpoint_every",
    "save_strategy": "checkpoint_every",
    "save_total_limit": "keep",
    "load_best_model_at_end": "keep",
    "overwrite_output_dir": "resume",
    "resume_from_checkpoint": "resume",
    "metric_for_best_model": "task.metrics",
    "logging_steps": "log.every",
    "logging_dir": "output_dir",
    "run_name": "log.tags",
    "report_to": "log.wandb",
    "max_seq_length": "train.max_length",
    "model_max_length": "train.max_length",
    "cutoff_len": "train.max_length",
    "max_train_samples": "train.max_rows",
    "max_eval_samples": "train.max_rows",
    "max_target_length": "task.language.max_new_tokens",
    "generation_max_length": "task.language.max_new_tokens",
    "generation_num_beams": "task.language.beams",
    "num_beams": "task.language.beams",
    "no_repeat_ngram_size": "task.language.no_repeat_ngram",
    "gradient_checkpointing": "hardware.activation_checkpointing",
    "torch_compile": "hardware.compile",
    "fp16": "hardware.precision=bf16",
    "bf16": "hardware.precision=bf16",
    "bf16_full_eval": "hardware.precision=bf16",
    "torch_dtype": "hardware.precision",
    "load_in_4bit": "hardware.base=nf4",
    "load_in_8bit": "hardware.base=nf4",
    "fsdp": "hardware=fsdp",
    "use_cpu": "hardware=cpu",
    "no_cuda": "hardware=cpu",
    "dataloader_num_workers": "hardware.threads",
    "data_seed": "seed",
    "model_name_or_path": "model",
    "model_name": "model",
    "base_model": "model",
    "task_name": "task",
    "dataset_name": "task",
    "dataset": "task",
    "train_file": "task.files.train",
    "validation_file": "task.files.validation",
    "test_file": "task.files.test",
    "text_column_name": "task.columns",
    "label_column_name": "task.label",
}
EVERYDAY = {
    "lr": "train.learning_rate",
    "lr_rate": "train.learning_rate",
    "batch": "train.batch_size",
    "bs": "train.batch_size",
    "bsz": "train.batch_size",
    "train_batch_size": "train.batch_size",
    "accumulation": "train.gradient_accumulation_steps",
    "accumulation_steps": "train.gradient_accumulation_steps",
    "accumulate_grad_batches": "train.gradient_accumulation_steps",
    "grad_accum": "train.gradient_accumulation_steps",
    "grad_acc": "train.gradient_accumulation_steps",
    "num_epochs": "train.epochs",
    "n_epochs": "train.epochs",
    "epoch": "train.epochs",
    "steps": "train.max_steps",
    "num_steps": "train.max_steps",
    "wd": "train.weight_decay",
    "warmup": "train.warmup_ratio",
    "num_warmup_steps": "train.warmup_steps",
    "scheduler": "train.schedule",
    "lr_scheduler": "train.schedule",
    "lr_schedule": "train.schedule",
    "gradient_clip_val": "train.max_grad_norm",
    "grad_clip": "train.max_grad_norm",
    "clip_grad_norm": "train.max_grad_norm",
    "beta1": "train.adam_beta1",
    "beta2": "train.adam_beta2",
    "eps": "train.adam_epsilon",
    "max_len": "train.max_length",
    "seq_len": "train.max_length",
    "sequence_length": "train.max_length",
    "max_samples": "train.max_rows",
    "limit": "train.max_rows",
    "eval_every": "train.evaluate_every",
    "random_seed": "seed",
    "seeds": "seed",
    "methods": "method",
    "tasks": "task",
    "models": "model",
    "adapter": "method",
    "dtype": "hardware.precision",
    "amp": "hardware.precision",
    "mixed_precision": "hardware.precision",
    "gpus": "hardware.processes",
    "num_gpus": "hardware.processes",
    "nproc_per_node": "hardware.processes",
    "num_workers": "hardware.threads",
    "checkpointing": "hardware.activation_checkpointing",
    "quantization": "hardware.base",
    "wandb_project": "log.project",
    "wandb_entity": "log.entity",
    "wandb_mode": "log.wandb",
    "output": "output_dir",
    "out_dir": "output_dir",
    "save_dir": "output_dir",
    "data": "data_dir",
    "data_path": "data_dir",
    "cache": "cache_dir",
    "metric": "task.metrics",
    "label_column": "task.label",
    "text_column": "task.columns",
}
# PEFT's names and others of what belongs to a method: MoLEx has it in the LoRA inside its layers.
LORA = {
    "r": "rank",
    "lora_r": "rank",
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "targets",
    "lora_target_modules": "targets",
    "modules": "targets",
}
METHOD = {
    "num_experts": "allocation.mean",
    "n_experts": "allocation.mean",
    "experts": "allocation.mean",
    "num_experts_per_tok": "top_k",
    "k": "top_k",
    "aux_loss_coef": "balance",
    "router_aux_loss_coef": "balance",
    "balance_loss": "balance",
    "init_lora_weights": "config.init_lora_weights",
}
SETTINGS = {
    **{f"train.{old}": f"train.{new}" for old, new in TRAIN.items()},
    **{f"task.{old}": f"task.{new}" for old, new in TASK.items()},
    **HUGGING_FACE,
    **EVERYDAY,
}
ORDER = ("train", "method", "task", "model", "hardware", "log", "collapse", "stages")
NO = dict.fromkeys(("off", "no", "none", "false", "False"), "disabled")
YES = dict.fromkeys(("on", "yes", "true", "True", "wandb"), "auto")
VALUES = {"task.kind": KINDS, "log.wandb": {**NO, **YES}}


def today(key: str, settings: Collection[str]) -> str | None:
    """Return today's name, among the settings there are, of one typed with its section or without; None for others.

    Where one value of ours is what was meant, it stands behind the name.
    """
    last = key.rpartition(".")[2].lstrip("-").replace("-", "_").lower()
    candidates = [new for old, new in SETTINGS.items() if old == key or old.rpartition(".")[2] == last]
    # MoLEx has its own alpha beside that of the LoRA inside its layers.
    candidates += [f"method.{inside}{LORA[last]}" for inside in ("lora.", "") if last in LORA]
    candidates += [f"method.{inside}{METHOD[last]}" for inside in ("", "lora.") if last in METHOD]
    if "." not in key:
        candidates += _ours(last, settings)
    return next((name for name in candidates if name.partition("=")[0] in settings), None)


def nearly(key: str, settings: Collection[str]) -> str | None:
    """Return today's name of what is nearly the key, or nearly another name of one; None where nothing is near."""
    if close := difflib.get_close_matches(key, settings, n=1, cutoff=0.75):
        return close[0]
    names = {*SETTINGS, *LORA, *METHOD, *(name.rpartition(".")[2] for name in settings)}
    last = key.rpartition(".")[2]
    close = difflib.get_close_matches(last, sorted(names), n=1, cutoff=0.85) if "." not in key else []
    return today(close[0], settings) if close else None


def _ours(last: str, settings: Collection[str]) -> list[str]:
    """Return the settings that are called so behind their section, those that are set most often first."""
    found = [name for name in settings if "." in name and name.rpartition(".")[2] == last]
    return sorted(found, key=lambda name: (ORDER.index(name.split(".")[0]), name.count(".")))
