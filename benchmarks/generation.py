"""Scoring by generation, in batches, against transformers' own generate in a plain loop: ratio within one run.

python benchmarks/generation.py model=smollm2_135m task=instruct/rte train.max_rows=24 train.max_length=256
"""

import sys
import time
from pathlib import Path

import torch

from molex_cli.checkpoints import adapter
from molex_cli.config import command_line, overrides
from molex_cli.data.reading import read
from molex_cli.objectives import build_objective
from molex_cli.objectives.causal_lm import generated
from molex_cli.runtime.paths import default_cache_dir

ROUNDS = 3


def main(settings):
    experiment = overrides.checked(command_line.CommandLine(overrides=settings))
    task = experiment.task
    splits, labels = read(task, experiment.data_dir, experiment.train.max_rows)
    adapted = adapter.adapt(experiment, labels)
    objective = build_objective(task, adapter.answer_mode(experiment), labels)
    tokenizer = adapted.backbone.tokenizer
    cache = Path(experiment.cache_dir) if experiment.cache_dir else default_cache_dir()
    encoded = objective.encode(splits["validation"], tokenizer, experiment.train.max_length, cache, training=False)
    device = torch.device("cpu")

    def plain():
        said = []
        for row in range(len(encoded.ids)):
            ids = torch.from_numpy(encoded.row(row)[0][: encoded.starts[row]]).long()[None]
            output = adapted.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=task.language.max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
            said.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
        return said

    def batched():
        return generated(adapted, encoded, task, experiment.train.eval_batch_size, device)

    seconds = {"plain loop": [], "molex": []}
    for _ in range(ROUNDS):
        answers = []
        for name, ask in (("plain loop", plain), ("molex", batched)):
            started = time.perf_counter()
            with torch.no_grad():
                answers.append(ask())
            seconds[name].append(time.perf_counter() - started)
        assert answers[0] == answers[1], "batches must say what each row says alone"
    best = {name: min(values) for name, values in seconds.items()}
    for name, value in best.items():
        print(f"{name:<11} {len(encoded.ids) / value:6.2f} examples/s  x {value / best['plain loop']:.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
