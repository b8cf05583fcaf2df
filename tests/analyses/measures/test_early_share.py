"""Shares of the early third, from recordings whose numbers are set by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analyses.measures.early_share import early_share
from gradscope.errors import RecordingError
from tests.helpers import synthetic_recording


def recording(n_steps=100, decay=0.05):
    """Seven layers; the early third (relative depth 0, 1/6, 1/3) does 3 of 3 + 4 * 2 = 11 parts."""
    tree = synthetic_recording(n_steps, 7)
    updates = tree["updates"].to_dataset()
    is_early = updates["relative_depth"] <= 1 / 3 + 1e-9
    parts = (updates["descent"] * 0 + 1).where(is_early, 2.0)
    tree["updates"] = updates.assign(
        descent=parts,
        update_norm=parts * 0.1,
        param_norm=parts * 0 + 1.0,
        update_param_cosine=parts * 0 + 0.6,
    )
    gradients = tree["gradients"].to_dataset()
    slope: Any = np.exp(-0.3 * gradients["depth"]) + gradients["grad_norm"] * 0
    tree["gradients"] = gradients.assign(grad_rms=slope.transpose("step", "param"))
    training = tree["training"].to_dataset()
    tree["training"] = training.assign(weight_decay=training["lr"] * 0 + decay)
    return tree


def test_shares_and_the_gradient_slope_are_those_that_were_put_in():
    found = early_share(recording(), is_decoupled=True)
    assert found.descent == pytest.approx(3 / 11)
    assert found.turning == pytest.approx(3 / 11)
    assert found.gradient_slope == pytest.approx(-0.3)


def test_the_age_of_decoupled_decay_is_the_sum_of_its_rates():
    young = early_share(recording(100, 0.05), is_decoupled=True)
    old = early_share(recording(400, 0.05), is_decoupled=True)
    assert young.age == pytest.approx(2 * 0.1 * 0.05 * 100)
    assert (young.is_old, old.is_old) == (False, True)


def test_without_decay_there_is_no_equilibrium():
    with pytest.raises(RecordingError, match="needs weight decay"):
        early_share(recording(20, 0.0), is_decoupled=True)
