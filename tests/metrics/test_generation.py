"""BLEU and NIST by their definitions, on real references."""

import csv
import importlib.metadata
import math
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from molex_cli.errors import ConfigError
from molex_cli.metrics.base import implementations
from molex_cli.metrics.generation import bleu, nist, rouge_l, tokens


@pytest.fixture
def meanings(official_data):
    """Return for some meanings a text, and other texts of the same meaning as references, of any number."""
    texts = defaultdict(list)
    with (Path(official_data) / "e2e_nlg/dev.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            texts[row["mr"]].append(row["ref"])
    chosen = [each for each in texts.values() if len(each) > 2][:80]
    return [each[0] for each in chosen], [each[1:] for each in chosen]


def counts(words, n):
    return Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))


def plain_bleu(texts, references):
    """Clipped precisions of 1 to 4 words, geometric mean, and the length of the nearest reference."""
    hits, totals, length, nearest = [0] * 4, [0] * 4, 0, 0
    for text, some in zip(texts, references, strict=True):
        words, others = tokens(text), [tokens(each) for each in some]
        length += len(words)
        nearest += min((abs(len(each) - len(words)), len(each)) for each in others)[1]
        for n in range(1, 5):
            own = counts(words, n)
            totals[n - 1] += sum(own.values())
            hits[n - 1] += sum(min(times, max(counts(each, n)[gram] for each in others)) for gram, times in own.items())
    precision = math.prod(hit / total for hit, total in zip(hits, totals, strict=True)) ** 0.25
    return 100 * precision * (1.0 if length > nearest else math.exp(1 - nearest / length))


def test_bleu_is_its_definition_to_four_decimals(meanings):
    texts, references = meanings
    assert {len(each) for each in references} > {4}
    assert bleu(texts, references) == pytest.approx(plain_bleu(texts, references), abs=5e-5)


def test_nist_is_its_definition_to_four_decimals_with_one_reference(meanings):
    """The Natural Language Toolkit's NIST agrees where each text has one reference."""
    from nltk.translate.nist_score import corpus_nist

    texts, references = meanings
    single = [each[:1] for each in references]
    theirs = corpus_nist([[tokens(each) for each in some] for some in single], [tokens(text) for text in texts], n=5)
    assert nist(texts, single) == pytest.approx(theirs, abs=5e-5)


def test_nist_of_a_small_example_by_hand():
    texts, references = ["a b"], [["a b", "a c c c"]]
    # Of 6 reference words a occurs 2 times and b 1 time; "a b" follows 1 of 2 times a.
    information = (math.log2(6 / 2) + math.log2(6 / 1)) / 2 + math.log2(2 / 1)
    penalty = math.exp(math.log(0.5) / math.log(1.5) ** 2 * math.log(2 / 3) ** 2)
    assert penalty == pytest.approx(0.5)
    assert nist(texts, references) == pytest.approx(penalty * information)


def test_tokens_are_those_of_13a_in_lower_case():
    assert tokens("It's £20.50, near &quot;Café&quot; - 5-star!") == [
        "it's", "£20.50", ",", "near", '"', "café", '"', "-", "5", "-", "star", "!",
    ]  # fmt: skip


def test_a_perfect_text_has_the_highest_scores_and_every_score_names_its_implementation():
    texts, references = ["the cat sat on the mat"], [["a dog", "the cat sat on the mat"]]
    assert bleu(texts, references) == pytest.approx(100)
    assert rouge_l(texts, references) == pytest.approx(100)
    assert set(implementations(["bleu", "nist", "rouge_l", "meteor"])) == {"bleu", "nist", "rouge_l"}


def test_a_score_whose_package_is_missing_is_refused_with_the_way_to_get_it(monkeypatch):
    def version(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr("importlib.metadata.version", version)
    with pytest.raises(ConfigError, match=r"task\.metrics must have sacrebleu .* pip install .*\[nlg\]'"):
        implementations(["bleu"])


def test_scoring_leaves_the_terminal_open_when_logging_is_configured_again():
    code = """
import io, logging.config, sys
terminal, sys.stderr = sys.stderr, io.StringIO()
from molex_cli.metrics.generation import rouge_l
rouge_l(["a"], [["a"]])
held, sys.stderr = sys.stderr, terminal
logging.config.dictConfig({"version": 1})
assert not held.closed
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_empty_texts_are_scored_and_not_an_error():
    assert bleu(["", "a b c d"], [["x"], ["a b c d"]]) >= 0
    assert nist(["", ""], [["x y"], ["z"]]) == 0.0
    assert nist(["a b"], [[""]]) == 0.0


def test_bleu_is_not_smoothed_as_the_official_score_is_not():
    assert bleu(["a c b d"], [["a b c d"]]) == 0.0


def plain_nist(texts, references):
    """Information from all references, hits clipped by the largest count in one, lengths against the mean reference."""
    seen, words_seen, expected = defaultdict(int), 0, 0.0
    for some in references:
        others = [tokens(each) for each in some]
        expected += sum(map(len, others)) / len(others)
        words_seen += sum(map(len, others))
        for each in others:
            for n in range(1, 6):
                for gram, times in counts(each, n).items():
                    seen[gram] += times
    total, length = 0.0, 0
    for n in range(1, 6):
        told = grams = 0
        for text, some in zip(texts, references, strict=True):
            own, others = counts(tokens(text), n), [counts(tokens(each), n) for each in some]
            grams += sum(own.values())
            length += sum(own.values()) if n == 1 else 0
            for gram, times in own.items():
                hits = min(times, max(each[gram] for each in others))
                before = words_seen if n == 1 else seen[gram.rpartition(" ")[0]]
                told += hits * math.log2(before / seen[gram]) if hits else 0
        total += told / grams
    ratio = min(1.0, length / expected)
    return total * math.exp(math.log(0.5) * (math.log(ratio) / math.log(1.5)) ** 2)


def test_nist_is_its_definition_to_four_decimals_with_many_references(meanings):
    texts, references = meanings
    assert nist(texts, references) == pytest.approx(plain_nist(texts, references), abs=5e-5)
    shorter = [" ".join(text.split()[:9]) for text in texts]
    assert nist(shorter, references) == pytest.approx(plain_nist(shorter, references), abs=5e-5)
