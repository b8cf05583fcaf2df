"""Main effects of a half fraction against the model that made the data."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analyses.measures.alpha.factorial import is_half_fraction, main_effects
from analyses.questions.isomerism.measure import FACTORS as SPEC
from analyses.study.study import SPECS
from gradscope.errors import UsageError
from gradscope.experiments.sweep.grid import read_sweep

LEVELS = dict.fromkeys("ABCDE", (1.0, 3.0))


def design(n_seeds=2) -> pd.DataFrame:
    signs = [s for s in itertools.product((-1, 1), repeat=5) if np.prod(s) == 1]
    rows = [
        {"seed": seed, **dict(zip("ABCDE", [2.0 + s for s in row], strict=True))}
        for seed in range(n_seeds)
        for row in signs
    ]
    return pd.DataFrame(rows)


def test_main_effects_are_clean_of_each_other_and_of_interactions_of_two():
    table = design()
    a, b, c = (table[name] - 2 for name in "ABC")
    table["y"] = 7 + 0.5 * a - 0.25 * b + 4 * a * b - 3 * b * c + table["seed"]
    effects = main_effects(table, LEVELS, "y")
    expected = [1.0, -0.5, 0, 0, 0]  # from low to high: twice the coefficient
    assert np.allclose(effects.to_numpy(), [expected, expected])


def test_a_seed_without_every_combination_is_left_out():
    table = design().assign(y=1.0)
    table.loc[3, "y"] = np.nan
    assert main_effects(table, LEVELS, "y").index.tolist() == [1]


def test_a_third_level_is_refused():
    table = design().assign(y=1.0)
    table.loc[0, "B"] = 2.5
    with pytest.raises(UsageError, match=r"`B` must be 1\.0 or 3\.0"):
        main_effects(table, LEVELS, "y")


@pytest.mark.parametrize("scale", [None, "smoke", "cpu", "short"])
def test_the_spec_is_such_a_half_at_every_scale(scale):
    cells = read_sweep(SPECS / f"{SPEC}.toml", scale=scale).cells
    factors: tuple[list[Any], ...] = (
        [len(cell.keep_classes) == 0 and cell.n_classes for cell in cells],
        [cell.samples_per_class for cell in cells],
        [cell.label_noise for cell in cells],
        [cell.imbalance for cell in cells],
        [cell.augment for cell in cells],
    )
    assert all(len(set(levels)) == 2 for levels in factors)
    signs = np.array([[1 if x == max(own) else -1 for x in own] for own in factors]).T
    assert is_half_fraction(signs)
