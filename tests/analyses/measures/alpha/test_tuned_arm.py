"""Break conditions of a tuned arm, on surfaces whose top is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analyses.measures.alpha.tuned_arm import curvature, is_at_edge, tuning_breaks


def trials(octaves, *, best=0.0, steepness=0.002, alpha=0.1, weight_decay=0.0) -> pd.DataFrame:
    rows = [
        {
            "alpha": alpha,
            "lr": 0.3 * 2.0**o,
            "weight_decay": weight_decay,
            "accuracy": 0.9 - steepness * (o - best) ** 2,
            "is_diverged": False,
        }
        for o in octaves
    ]
    return pd.DataFrame(rows)


def test_a_best_trial_inside_is_no_edge_and_gives_the_curvature():
    inside = trials([0, -1, 1])
    assert not is_at_edge(inside)
    assert curvature(inside) == pytest.approx(0.002)
    assert tuning_breaks(inside, ["alpha"]) == []


def test_a_best_trial_at_the_end_is_an_edge_and_names_its_cell():
    table = pd.concat([trials([0, -1, 1]), trials([0, -1, 1], best=3, alpha=0.2)])
    (fired,) = tuning_breaks(table, ["alpha"])
    assert fired.startswith("the best trial of an arm lies at the edge of its grid")
    assert "0.2" in fired
    assert "0.1" not in fired


def test_weight_decay_has_neighbours_too():
    assert is_at_edge(trials([0, -1, 1], weight_decay=5e-4))


def test_a_steep_surface_is_told():
    (fired,) = tuning_breaks(trials([0, -1, 1], steepness=0.01), ["alpha"])
    assert fired == (
        "the tuning surface is steeper than the allowance assumes: 0.0100 an octave off, "
        "0.004 assumed"
    )


def test_of_equally_good_trials_none_may_be_at_the_edge():
    """In any order of their rows; the curvature is the mean of both."""
    table = trials([0, -1, 1, 2, 3, 4]).assign(accuracy=[0.9, 0.898, 0.896, 0.89, 0.892, 0.9])
    for rows in (table, table[::-1]):
        assert is_at_edge(rows)
        assert curvature(rows) == pytest.approx(0.003)  # unknown at the edge


def test_a_diverged_neighbour_is_the_worst_and_leaves_the_curvature_open():
    table = trials([0, -1, 1])
    table["is_diverged"] = table["lr"] > 0.5
    assert not is_at_edge(table)
    assert np.isnan(curvature(table))
