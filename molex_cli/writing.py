"""Scores of written texts against references; each names the implementation that computed it."""

import importlib.metadata
from collections.abc import Callable, Sequence

References = Sequence[Sequence[str]]


def bleu(texts: Sequence[str], references: References) -> float:
    """Return corpus BLEU in percent with mteval-v13a's tokenisation, cases ignored, any number of references."""
    from sacrebleu.metrics import BLEU

    most = max(map(len, references))
    streams = [[each[i] if i < len(each) else None for each in references] for i in range(most)]
    return float(BLEU(lowercase=True, tokenize="13a").corpus_score(list(texts), streams).score)


TEXT_METRICS: dict[str, Callable[[Sequence[str], References], float]] = {"bleu": bleu}


def score_texts(names: Sequence[str], texts: Sequence[str], references: References) -> dict[str, float]:
    """Return each named score."""
    return {name: TEXT_METRICS[name](texts, references) for name in names}


def version(package: str) -> str:
    """Return name and version of a package."""
    return f"{package} {importlib.metadata.version(package)}"
