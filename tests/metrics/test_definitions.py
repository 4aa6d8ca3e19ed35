"""GLUE's scores are those that `evaluate` computes for it: those of scikit-learn and scipy, on any predictions."""

import math

import numpy as np
import pytest

from molex_cli.metrics.base import METRICS

sklearn = pytest.importorskip("sklearn.metrics")


def predictions(kind):
    """Return pairs of predicted and right labels, or numbers: at random, constant, of one class, with many ties."""
    stream = np.random.default_rng(0)
    for count in (2, 3, 10, 400):
        for classes in (2, 3, 7):
            given, said = stream.integers(0, classes, (2, count))
            if kind == "numbers":
                yield said.astype(float), given.astype(float)  # ties
                yield stream.normal(size=count), given + stream.normal(size=count)
            else:
                yield said, given
            for constant in (0, 1):
                yield np.full(count, constant, said.dtype), given
                yield said, np.full(count, constant, said.dtype)
                yield np.full(count, constant, said.dtype), np.full(count, constant, said.dtype)


def ours(name, said, given, **others):
    return METRICS[name].function(said.tolist(), given.tolist(), **others)


def test_accuracy_is_that_of_scikit_learn():
    for said, given in predictions("labels"):
        assert ours("accuracy", said, given) == pytest.approx(sklearn.accuracy_score(given, said), abs=1e-12)


def test_f1_is_that_of_scikit_learn_and_undefined_where_that_says_zero_for_lack_of_the_class():
    for said, given in predictions("labels"):
        for positive in (0, 1):
            found = ours("f1", said, given, positive=positive)
            theirs = sklearn.f1_score(given == positive, said == positive, zero_division=0)
            if math.isnan(found):
                assert positive not in said
                assert positive not in given
                assert METRICS["f1"].undefined == theirs
            else:
                assert found == pytest.approx(theirs, abs=1e-12)


def test_f1_macro_is_that_of_scikit_learn():
    for said, given in predictions("labels"):
        theirs = sklearn.f1_score(given, said, average="macro", zero_division=0)
        assert ours("f1_macro", said, given) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.filterwarnings("ignore:A single label")
def test_matthews_is_that_of_scikit_learn_and_undefined_where_that_says_zero_for_a_constant():
    for said, given in predictions("labels"):
        found = ours("matthews", said, given)
        theirs = sklearn.matthews_corrcoef(given, said)
        if math.isnan(found):
            assert min(len(set(said)), len(set(given))) == 1
            assert METRICS["matthews"].undefined == theirs == 0.0
        else:
            assert found == pytest.approx(theirs, abs=1e-12)


@pytest.mark.filterwarnings("ignore:An input array is constant")
@pytest.mark.parametrize(("name", "function"), [("pearson", "pearsonr"), ("spearman", "spearmanr")])
def test_correlations_are_those_of_scipy_and_undefined_where_those_are(name, function):
    from scipy import stats

    for said, given in predictions("numbers"):
        theirs = getattr(stats, function)(said, given).statistic
        assert ours(name, said, given) == pytest.approx(theirs, abs=1e-9, nan_ok=True)
