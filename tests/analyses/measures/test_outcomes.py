"""Outcomes that runs are compared by: diverged runs, loss levels, gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analyses.measures.outcomes import gap_at, n_classes_of, outcome_row, steps_to, training_loss
from analyses.study.run_records import RunRecord
from gradscope.errors import UsageError
from tests.helpers import synthetic_recording


def run(status="finished", **config) -> RunRecord:
    config = {"dataset": "digits", "seed": 3, "alpha": 0.1, **config}
    return RunRecord(Path("x.h5"), "spec", config, status, {"test_accuracy": 0.9})


def test_a_diverged_run_has_the_accuracy_of_guessing():
    assert outcome_row(run())["accuracy"] == 0.9
    assert outcome_row(run("diverged"))["accuracy"] == 0.1
    assert outcome_row(run("diverged", dataset="synthetic", n_classes=4))["accuracy"] == 0.25


def test_a_run_that_was_not_evaluated_did_not_guess():
    assert np.isnan(outcome_row(run(), "val")["accuracy"])
    assert outcome_row(run("diverged"), "val")["accuracy"] == 0.1


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"dataset": "cifar100"}, 100),
        ({"dataset": "cifar100", "labels": "binary"}, 2),
        ({"dataset": "cifar100", "labels": "random", "merge_into": 7}, 7),
        ({"dataset": "cifar10", "keep_classes": [1, 2]}, 2),
        ({"dataset": "synthetic", "n_classes": 40}, 40),
    ],
)
def test_classes_are_counted_as_the_data_are_made(config, expected):
    assert n_classes_of(config) == expected


def test_a_run_of_other_training_is_refused_in_one_line():
    with pytest.raises(
        UsageError, match=r"must say its `dataset` in config_json.*; got learning_rate"
    ):
        n_classes_of({"learning_rate": 0.1})


def test_the_loss_is_averaged_before_it_is_compared():
    tree = synthetic_recording(30)
    loss = tree["training"]["loss"].values
    found = training_loss(tree)
    assert found.values[19] == pytest.approx(loss[10:20].mean())
    assert found.values[0] == pytest.approx(loss[0])
    assert steps_to(found, -1.0) == (30, False)


def test_a_level_below_the_first_evaluation_or_never_reached_has_no_gap():
    train, held_out = np.array([1.0, 0.5]), np.array([1.1, 0.9])
    assert np.isnan(gap_at(train, held_out, 2.0))
    assert np.isnan(gap_at(train, held_out, 0.1))
    assert gap_at(train, held_out, 0.5) == pytest.approx(0.4)
