import math

import pytest

from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.sweep.tuning import WORST, Tuning


def search(peak, *, has_decay=True, **options):
    """Tune on a smooth hill whose top is at a point of the grid; returns the scores."""
    tuning, scores = Tuning(**options), {}
    while points := tuning.next_points(scores, has_decay=has_decay):
        for point in points:
            assert point not in scores
            scores[point] = -math.hypot(point[0] - peak[0], point[1] - peak[1])
    return tuning, scores


@pytest.mark.parametrize("peak", [(0, 0), (3, 0), (-2, 2)])
def test_the_range_grows_until_the_best_lies_inside(peak):
    tuning, scores = search(peak, trials=60)
    assert max(scores, key=scores.get) == peak
    assert not tuning.is_at_edge(scores, has_decay=True)
    assert all((peak[0] + i, peak[1] + j) in scores for i in (-1, 0, 1) for j in (-1, 0, 1))


def test_the_budget_is_kept_and_an_edge_is_seen():
    tuning, scores = search((20, 0), trials=13)
    assert len(scores) == 13
    assert tuning.is_at_edge(scores, has_decay=True)


def test_without_decay_only_the_learning_rate_is_tried():
    _, scores = search((2, 0), has_decay=False, trials=60)
    assert sorted(scores) == [(i, 0) for i in range(-1, 4)]


def test_points_are_factors_on_lr_and_decay():
    config = Tuning().at(Config(lr=0.1, weight_decay=1e-3), (-1, 2))
    assert (config.lr, config.weight_decay) == pytest.approx((0.05, 4e-3))


def test_losses_are_better_when_smaller_and_divergence_is_worst():
    tuning = Tuning(metric="val_loss")
    assert tuning.score("finished", {"val_loss": 0.5}) > tuning.score("finished", {"val_loss": 0.7})
    assert tuning.score("diverged", {"val_loss": 0.1}) == WORST
    assert Tuning().score("finished", {}) == WORST


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials >= 1"),
        ({"factor": 1.0}, "factor > 1"),
        ({"metric": "test_accuracy"}, "never test"),
    ],
)
def test_a_wrong_value_is_named(options, message):
    with pytest.raises(UsageError, match=message):
        Tuning(**options)
