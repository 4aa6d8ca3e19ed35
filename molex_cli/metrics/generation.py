"""Scores of written texts against references, any number for each text; every score names what computed it.

BLEU and NIST are those of mteval-v13a, which the E2E challenge used: its tokenisation, cases ignored.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from molex_cli import __version__
from molex_cli.metrics.base import ByExample, Metric, metric, package_version, register

References = Sequence[Sequence[str]]
Tokens = tuple[str, ...]
Tokenised = Sequence[tuple[list[str], list[list[str]]]]
"""The tokens of each text, and of each of its references."""
JAVA = (
    "needs Java and its own data: run measure_scores.py of github.com/tuetschek/e2e-metrics on the texts of "
    "predictions-last.jsonl"
)
NIST_ORDER = 5


def _bleu_implementation() -> str:
    return f"{package_version('sacrebleu')}, tokenize=13a, lowercase, no smoothing, all references"


def _nist_implementation() -> str:
    tokenizer = f"{package_version('sacrebleu')} 13a, lowercase, all references"
    return f"molex {__version__}, NIST-5 on tokens of {tokenizer}"


def _rouge_implementation() -> str:
    return f"{package_version('rouge-score')}, rougeL F1, no stemmer, best reference"


@metric("generation", high=100.0, by_example=ByExample.no, implementation=_bleu_implementation)
def bleu(texts: Sequence[str], references: References) -> float:
    """Return corpus BLEU in percent (Papineni et al. 2002)."""
    from sacrebleu.metrics import BLEU

    most = max(map(len, references))
    streams = [[each[i] if i < len(each) else None for each in references] for i in range(most)]
    return float(BLEU(lowercase=True, tokenize="13a", smooth_method="none").corpus_score(list(texts), streams).score)


@metric("generation", high=math.inf, by_example=ByExample.no, implementation=_nist_implementation)
def nist(texts: Sequence[str], references: References) -> float:
    """Return corpus NIST-5 (Doddington 2002).

    The sum over n of the information of all n-grams that a reference has too, for each n-gram of the text,
    times exp(beta log^2 ratio) where the texts are shorter than their references on average. The information of an
    n-gram is log2 of how much rarer it is in the references than its first n - 1 words.
    """
    tokenised = [(tokens(text), [tokens(each) for each in some]) for text, some in zip(texts, references, strict=True)]
    length = sum(len(words) for words, _ in tokenised)
    expected = sum(sum(map(len, some)) / len(some) for _, some in tokenised)
    if not length or not expected:
        return 0.0
    seen = _seen(tokenised)
    return _brevity(length / expected) * sum(_mean_information(tokenised, n, seen) for n in range(1, NIST_ORDER + 1))


def _seen(tokenised: Tokenised) -> Counter[Tokens]:
    """Return how often each n-gram occurs in the references; the empty one as often as there are words."""
    seen: Counter[Tokens] = Counter()
    for _, some in tokenised:
        for reference in some:
            seen.update(gram for n in range(1, NIST_ORDER + 1) for gram in grams(reference, n))
            seen[()] += len(reference)
    return seen


def _mean_information(tokenised: Tokenised, n: int, seen: Counter[Tokens]) -> float:
    """Return the information of the n-grams that a reference has too, for each n-gram of the texts."""
    information, count = 0.0, 0
    for words, some in tokenised:
        allowed: Counter[Tokens] = Counter()
        for reference in some:
            allowed |= Counter(grams(reference, n))
        hits = Counter(grams(words, n)) & allowed
        information += sum(times * math.log2(seen[gram[:-1]] / seen[gram]) for gram, times in hits.items())
        count += max(0, len(words) - n + 1)
    return information / count if count else 0.0


def _brevity(ratio: float) -> float:
    """Return the NIST penalty: 1/2 where the texts have two thirds of the words they should have."""
    if ratio >= 1:
        return 1.0
    return math.exp(math.log(0.5) / math.log(1.5) ** 2 * math.log(ratio) ** 2)


@metric("generation", high=100.0, by_example=ByExample.no, implementation=_rouge_implementation)
def rouge_l(texts: Sequence[str], references: References) -> float:
    """Return the mean ROUGE-L F1 in percent, with the best reference of each text (Lin 2004)."""
    scorer = _rouge_scorer()
    found = [
        scorer.score_multi(list(some), text)["rougeL"].fmeasure for text, some in zip(texts, references, strict=True)
    ]
    return 100 * sum(found) / len(found)


def _rouge_scorer() -> Any:
    from absl import logging
    from rouge_score.rouge_scorer import RougeScorer

    # absl closes its handler's stream, the terminal's perhaps, when a later job of a sweep configures logging.
    logging.get_absl_handler().python_handler.close = lambda: None  # type: ignore[method-assign]
    return RougeScorer(["rougeL"])


def undefined(texts: Sequence[str], references: References) -> float:
    """Return NaN: the score is not computed here."""
    return math.nan


for _name in ("METEOR", "CIDEr"):
    register(
        Metric(
            name=_name.lower(),
            function=undefined,
            kinds=("generation",),
            high=math.inf,
            by_example=ByExample.no,
            not_computed=f"{_name} {JAVA}",
        )
    )


def tokens(text: str) -> list[str]:
    """Return the tokens of mteval-v13a, in lower case."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    split: list[str] = Tokenizer13a()(text).lower().split()
    return split


def grams(words: Sequence[str], n: int) -> Iterable[Tokens]:
    """Return every n words in a row."""
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))
