"""Language models: trained on answers, scored by the likelihood of each choice or by what they generate.

Dimensions: B rows, T tokens, V tokens of the vocabulary.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import GenerationConfig

from molex_cli.config.task import AnswerMode, Kind, Scored, Task
from molex_cli.data.batches import collate, slices
from molex_cli.data.encoding import Encoded
from molex_cli.data.prompts import encode_questions, letter, questions
from molex_cli.data.reading import Split, label_words
from molex_cli.methods.base import Adapted
from molex_cli.metrics.base import compute_scores
from molex_cli.metrics.classification import accuracy
from molex_cli.metrics.constant import best_constant
from molex_cli.objectives.base import Batch, Predictions, for_model, in_order, objective, on, scoring_batches, sharded
from molex_cli.objectives.multiple_choice import by_question, sizes_of
from molex_cli.runtime import distributed

IGNORED = -100


@objective(
    "causal_lm",
    kinds=(Kind.multiple_choice, Kind.generation),
    answer_modes=(AnswerMode.likelihood, AnswerMode.generate),
    head_outputs=lambda task, labels: None,
    is_standard=True,
    smooths_labels=True,
)
class CausalLM:
    """Cross-entropy of the answer's tokens, or of all of them."""

    label_smoothing = 0.0

    def __init__(self, task: Task, mode: AnswerMode, labels: Sequence[str]) -> None:
        self.task, self.labels, self.answer_mode = task, list(labels), mode.name

    def encode(self, split: Split, tokenizer: Any, max_length: int, cache_dir: Path, *, training: bool) -> Encoded:
        """Return a row of prompt and right answer for each example; for likelihoods, of every answer."""
        likelihood = self.answer_mode == AnswerMode.likelihood.name
        return encode_questions(
            questions(self.task, split, AnswerMode[self.answer_mode]),
            split,
            tokenizer,
            max_length,
            every_answer=likelihood and not training,
            end=not likelihood,
            may_leave_out=training,
        )

    def batch(self, encoded: Encoded, examples: Sequence[int], pad_id: int, pad_to: int | None) -> Batch:
        """Return ids, mask and labels [B, T], labels -100 where nothing is learned; `prompt_mask` is 1 on prompts."""
        return _collated(encoded, encoded.rows_of(examples), pad_id, pad_to, self.task.language.train_on)

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of the tokens that are learned."""
        if not self.label_smoothing:
            return model(**batch).loss
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits, next_BT = model(**inputs).logits[:, :-1].float(), batch["labels"][:, 1:]
        return functional.cross_entropy(
            logits.flatten(0, 1), next_BT.flatten(), ignore_index=IGNORED, label_smoothing=self.label_smoothing
        )

    def weight(self, batch: Batch) -> int:
        """Return the number of tokens that are learned."""
        return int((batch["labels"][:, 1:] != IGNORED).sum())

    @torch.no_grad()
    def values(self, adapted: Adapted, encoded: Encoded, batch_size: int, device: torch.device) -> Tensor:
        """Return log-likelihood and number of tokens of every answer: [rows, 2], float32."""
        adapted.model.eval()
        rows: list[int] = []
        values: list[Tensor] = []
        batches = (encoded.rows_of(examples) for examples in scoring_batches(adapted, encoded, batch_size))
        # A question has a row for each choice, and a row of logits is as wide as the vocabulary: some rows at a time.
        for part in sharded(adapted, [part for rows_of_batch in batches for part in slices(rows_of_batch, batch_size)]):
            pad_id = adapted.backbone.tokenizer.pad_token_id
            batch = on(device, _collated(encoded, part, pad_id, adapted.pad_to, Scored.answer))
            labels_BT = batch["labels"][:, 1:]
            answer_BT = labels_BT != IGNORED
            logits = adapted.model(**for_model(adapted, batch)).logits[:, :-1][answer_BT].float()
            nats = functional.cross_entropy(logits, labels_BT[answer_BT], reduction="none")
            lines = torch.zeros(answer_BT.shape, device=device).masked_scatter_(answer_BT, -nats)
            values.append(torch.stack([lines.sum(1), answer_BT.sum(1).float()], 1))
            rows += part
        return in_order(values, rows)

    def predictions(
        self, adapted: Adapted, encoded: Encoded, names: Sequence[str], batch_size: int, device: torch.device
    ) -> Predictions:
        """Score a split in its answer mode."""
        values = self.values(adapted, encoded, batch_size, device)
        if self.answer_mode == AnswerMode.likelihood.name:
            return self._most_likely(values, encoded, names)
        loss = float(-values[:, 0].sum() / values[:, 1].sum())
        texts = generated(adapted, encoded, self.task, batch_size, device)
        if self.task.kind is Kind.generation:
            return self._compared(texts, encoded, names, loss)
        return self._extracted(texts, encoded, names, loss)

    def baseline(self, names: Sequence[str], encoded: Encoded) -> dict[str, float]:
        """Return the best scores of one answer to every question; none for texts."""
        return {} if self.task.kind is Kind.generation else best_constant(names, encoded.labels)

    def _most_likely(self, values: Tensor, encoded: Encoded, names: Sequence[str]) -> Predictions:
        """Rank each question's answers by likelihood, raw and for each token."""
        sizes = sizes_of(encoded)
        raw = by_question(values[:, 0], sizes)
        each = by_question(values[:, 0] / values[:, 1], sizes)
        predictions, normalised = raw.argmax(1).tolist(), each.argmax(1).tolist()
        gold = torch.tensor(encoded.labels)[:, None]
        tokens = by_question(values[:, 1], sizes).gather(1, gold).sum()
        lines = zip(encoded.ids, encoded.labels, predictions, normalised, values.split(sizes), strict=True)
        rows = [
            {
                "id": key,
                "label": self._shown(label),
                "prediction": self._shown(prediction),
                "prediction_normalised": self._shown(by_token),
                "log_likelihoods": [round(value, 6) for value in answers[:, 0].tolist()],
                "tokens": answers[:, 1].int().tolist(),
            }
            for key, label, prediction, by_token, answers in lines
        ]
        scores = compute_scores(names, predictions, encoded.labels)
        scores["accuracy_normalised"] = accuracy(normalised, encoded.labels)
        return Predictions(rows, scores, float(-raw.gather(1, gold).sum() / tokens))

    def _extracted(self, texts: Sequence[str], encoded: Encoded, names: Sequence[str], loss: float) -> Predictions:
        """Look for exactly one answer in each text; a text with none or several is wrong."""
        answers = [found_answer(text, self.task.language, list(map(label_words, self.labels))) for text in texts]
        predictions = [-1 if answer is None else answer for answer in answers]
        rows = [
            {
                "id": key,
                "label": self._shown(label),
                "prediction": None if answer is None else self._shown(answer),
                "text": text,
            }
            for key, label, answer, text in zip(encoded.ids, encoded.labels, answers, texts, strict=True)
        ]
        share = sum(answer is not None for answer in answers) / len(answers)
        scores = compute_scores(names, predictions, encoded.labels) | {"answers_found": share}
        return Predictions(rows, scores, loss, () if share else ("no generated text holds an answer",))

    def _compared(self, texts: Sequence[str], encoded: Encoded, names: Sequence[str], loss: float) -> Predictions:
        """Score each text against its references."""
        rows = [
            {"id": key, "label": list(references), "prediction": text}
            for key, references, text in zip(encoded.ids, encoded.labels, texts, strict=True)
        ]
        return Predictions(rows, compute_scores(names, texts, encoded.labels), loss)

    def _shown(self, index: int) -> str:
        return self.labels[index] if self.labels else letter(index)


def found_answer(text: str, language: Any, labels: Sequence[str]) -> int | None:
    """Return the index of the one answer in a text; None where there is none or more than one."""
    before, _, after = (language.pattern or language.answer).partition("{answer}")
    names = sorted(map(re.escape, labels), key=len, reverse=True) if labels else ["[A-Z]"]
    answers = re.findall(f"{re.escape(before.strip())}\\s*({'|'.join(names)}){re.escape(after.rstrip())}", text)
    if len(answers) != 1:
        return None
    return list(labels).index(answers[0]) if labels else ord(answers[0]) - ord("A")


@torch.no_grad()
def generated(adapted: Adapted, encoded: Encoded, task: Task, batch_size: int, device: torch.device) -> list[str]:
    """Return what the model writes after each example's prompt; prompts are padded on the left."""
    adapted.model.eval()
    tokenizer = adapted.backbone.tokenizer
    settings = _generation_settings(task, tokenizer)
    texts: dict[int, str] = {}
    for examples in sharded(adapted, scoring_batches(adapted, encoded, batch_size)):
        prompts = [encoded.row(row)[0][: encoded.starts[row]] for row in encoded.rows_of(examples)]
        inputs = on(device, _left_padded(prompts, tokenizer.pad_token_id))
        width = inputs["input_ids"].shape[1]
        tokens = adapted.model.generate(**inputs, generation_config=settings, synced_gpus=adapted.sharded)[:, width:]
        for example, text in zip(examples, tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
            texts[example] = text.strip()
    everywhere: dict[int, str] = {}
    for example, text in distributed.all_gather(list(texts.items())):
        everywhere.setdefault(example, text)  # as in `in_order`
    return [everywhere[example] for example in range(len(encoded.ids))]


def _generation_settings(task: Task, tokenizer: Any) -> GenerationConfig:
    """Return how the task's answers are generated; whatever a model's own settings could change is set here."""
    language = task.language
    return GenerationConfig(
        max_new_tokens=language.max_new_tokens,
        do_sample=False,
        num_beams=language.beams,
        length_penalty=language.length_penalty if language.beams > 1 else None,
        no_repeat_ngram_size=language.no_repeat_ngram,
        repetition_penalty=1.0,
        encoder_repetition_penalty=1.0,
        min_new_tokens=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )


def _left_padded(prompts: Sequence[np.ndarray], pad_id: int) -> Batch:
    """Return prompts that end together: ids and mask [B, T]."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros_like(ids)
    for line, prompt in enumerate(prompts):
        ids[line, width - len(prompt) :] = torch.from_numpy(prompt)
        mask[line, width - len(prompt) :] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _collated(encoded: Encoded, rows: Sequence[int], pad_id: int, pad_to: int | None, learned: Scored) -> Batch:
    batch = collate(encoded, rows, pad_id, pad_to)
    columns = torch.arange(batch["input_ids"].shape[1])
    prompt = columns < torch.from_numpy(encoded.starts[list(rows)])[:, None]
    real = batch["attention_mask"].bool()
    batch["prompt_mask"] = (prompt & real).long()
    nothing = ~real if learned is Scored.all else ~real | prompt
    return {**batch, "labels": batch["input_ids"].masked_fill(nothing, IGNORED)}
