"""Scores of written texts against references, any number for each text; every score names what computed it.

BLEU and NIST are those of mteval-v13a, which the E2E challenge used: its tokenisation, cases ignored.
"""

import importlib.metadata
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from molex_cli import __version__
from molex_cli.errors import ConfigError

References = Sequence[Sequence[str]]
JAVA = (
    "needs Java and its own data: run measure_scores.py of github.com/tuetschek/e2e-metrics on the texts of "
    "predictions-last.jsonl"
)
NOT_COMPUTED = {"meteor": f"METEOR {JAVA}", "cider": f"CIDEr {JAVA}"}
NIST_ORDER = 5


def bleu(texts: Sequence[str], references: References) -> float:
    """Return corpus BLEU in percent (Papineni et al. 2002)."""
    from sacrebleu.metrics import BLEU

    most = max(map(len, references))
    streams = [[each[i] if i < len(each) else None for each in references] for i in range(most)]
    return float(BLEU(lowercase=True, tokenize="13a", smooth_method="none").corpus_score(list(texts), streams).score)


def nist(texts: Sequence[str], references: References) -> float:
    """Return corpus NIST-5 (Doddington 2002).

    The sum over n of the information of all n-grams that a reference has too, for each n-gram of the text,
    times exp(beta log^2 ratio) where the texts are shorter than their references on average. What an n-gram
    tells is log2 of how much rarer it is in the references than its first n - 1 words.
    """
    tokenised = [(tokens(text), [tokens(each) for each in some]) for text, some in zip(texts, references, strict=True)]
    seen: Counter[tuple[str, ...]] = Counter()
    for _, some in tokenised:
        for reference in some:
            seen.update(gram for n in range(1, NIST_ORDER + 1) for gram in grams(reference, n))
            seen[()] += len(reference)
    told, counted = [0.0] * NIST_ORDER, [0] * NIST_ORDER
    for words, some in tokenised:
        for n in range(1, NIST_ORDER + 1):
            allowed: Counter[tuple[str, ...]] = Counter()
            for reference in some:
                allowed |= Counter(grams(reference, n))
            hits = Counter(grams(words, n)) & allowed
            told[n - 1] += sum(times * math.log2(seen[gram[:-1]] / seen[gram]) for gram, times in hits.items())
            counted[n - 1] += max(0, len(words) - n + 1)
    length = sum(len(words) for words, _ in tokenised)
    expected = sum(sum(map(len, some)) / len(some) for _, some in tokenised)
    if not length or not expected:
        return 0.0
    return _brevity(length / expected) * sum(t / c for t, c in zip(told, counted, strict=True) if c)


def rouge_l(texts: Sequence[str], references: References) -> float:
    """Return the mean ROUGE-L F1 in percent, with the best reference of each text (Lin 2004)."""
    scorer = _rouge_scorer()
    found = [
        scorer.score_multi(list(some), text)["rougeL"].fmeasure for text, some in zip(texts, references, strict=True)
    ]
    return 100 * sum(found) / len(found)


def not_computed(texts: Sequence[str], references: References) -> float:
    """Return NaN: the score is named, and NOT_COMPUTED says how to get it."""
    return math.nan


def tokens(text: str) -> list[str]:
    """Return the tokens of mteval-v13a, in lower case."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    split: list[str] = Tokenizer13a()(text).lower().split()
    return split


def grams(words: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    """Return every n words in a row."""
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def implementations(names: Sequence[str]) -> dict[str, str]:
    """Return what computes each of the named scores."""
    ours = f"molex {__version__}"
    known = {
        "bleu": lambda: f"{_version('sacrebleu')}, tokenize=13a, lowercase, no smoothing, all references",
        "nist": lambda: f"{ours}, NIST-5 on tokens of {_version('sacrebleu')} 13a, lowercase, all references",
        "rouge_l": lambda: f"{_version('rouge-score')}, rougeL F1, no stemmer, best reference",
    }
    return {name: known[name]() for name in names if name in known}


def _rouge_scorer() -> Any:
    from absl import logging
    from rouge_score.rouge_scorer import RougeScorer

    # absl closes its handler's stream, the terminal's perhaps, when a later job of a sweep configures logging.
    logging.get_absl_handler().python_handler.close = lambda: None  # type: ignore[method-assign]
    return RougeScorer(["rougeL"])


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        way_out = "pip install 'molex[nlg]'"
        raise ConfigError(f"task.metrics must have {package} to compute them, got none; {way_out}") from None


def _brevity(ratio: float) -> float:
    """Return the NIST penalty: 1/2 where the texts have two thirds of the words they should have."""
    if ratio >= 1:
        return 1.0
    return math.exp(math.log(0.5) / math.log(1.5) ** 2 * math.log(ratio) ** 2)
