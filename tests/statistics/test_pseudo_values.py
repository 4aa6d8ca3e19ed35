"""Values by example whose mean is the score."""

import numpy as np
import pytest

from molex_cli.metrics.classification import accuracy, f1, matthews
from molex_cli.metrics.regression import pearson
from molex_cli.statistics import intervals, pseudo_values


def test_pseudo_values_of_a_mean_are_the_outcomes_and_their_mean_is_the_score():
    stream = np.random.default_rng(5)
    label, guess = stream.integers(0, 3, (2, 80)).tolist()
    outcomes = [float(one == other) for one, other in zip(label, guess, strict=True)]
    assert pseudo_values.pseudo_values(accuracy, guess, label) == pytest.approx(outcomes)
    for metric in (matthews, f1):
        assert pseudo_values.pseudo_values(metric, guess, label).mean() == pytest.approx(metric(guess, label))
    scored, given = stream.normal(size=(2, 50)).tolist()
    by_hand = [pearson(scored[:i] + scored[i + 1 :], given[:i] + given[i + 1 :]) for i in range(50)]
    jackknifed = 50 * pearson(scored, given) - 49 * np.array(by_hand)
    found = pseudo_values.pseudo_values(pearson, scored, given)
    assert found - found.mean() == pytest.approx(jackknifed - jackknifed.mean())
    assert np.isnan(pseudo_values.pseudo_values(matthews, [0, 0, 1], [0, 1, 0])).any()  # undefined without the third


@pytest.mark.parametrize(("metric", "num_seeds", "num_examples"), [(matthews, 4, 120), (f1, 5, 100)])
def test_intervals_of_scores_that_are_no_means_cover_what_they_promise(metric, num_seeds, num_examples):
    stream = np.random.default_rng(6)

    def guesses(label, skill):
        return np.where(stream.random(len(label)) < skill, label, stream.integers(0, 2, len(label)))

    def seeds(count):
        return np.clip(stream.normal([[0.6], [0.45]], 0.06, (2, count)), 0, 1)

    population = stream.integers(0, 2, 400_000)
    truth = np.subtract(*(metric(guesses(population, skill), population) for skill in (0.6, 0.45)))
    covered = 0
    for _ in range(400):
        label = stream.integers(0, 2, num_examples)
        table = []
        for one, other in seeds(num_seeds).T:
            values = [
                pseudo_values.pseudo_values(metric, guesses(label, s).tolist(), label.tolist()) for s in (one, other)
            ]
            table.append(values[0] - values[1])
        interval = intervals.crossed_interval(np.stack(table))
        covered += interval.low <= truth <= interval.high
    assert 0.93 <= covered / 400 <= 0.985
