"""Gain of the best alpha that the other seeds chose."""

from __future__ import annotations

import pandas as pd
import pytest

from analyses.measures.alpha.cross_fit import gain_over


def test_of_alphas_that_tie_in_the_other_seeds_none_is_preferred():
    table = pd.DataFrame({0.0: [0.5, 0.5], 0.1: [0.6, 0.4], 0.2: [0.6, 0.7]})
    # Seed 0 leaves 0.1 and 0.2 to choose from, seed 1 chooses 0.2.
    expected = [0.6 - 0.5, (0.4 + 0.7) / 2 - 0.5]
    assert gain_over(table, 0.0).tolist() == pytest.approx(expected)
    assert gain_over(table[[0.0, 0.2, 0.1]], 0.0).tolist() == pytest.approx(expected)
