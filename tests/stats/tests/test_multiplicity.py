import numpy as np
import pytest
from scipy import stats

from gradscope.stats.tests.multiplicity import benjamini_hochberg, holm


def test_holm_by_hand():
    # Sorted 0.005, 0.011, 0.02, 0.04, 0.13 times 5, 4, 3, 2, 1: 0.025, 0.044, 0.06, 0.08, 0.13.
    result = holm([0.02, 0.005, 0.13, 0.011, 0.04])
    np.testing.assert_allclose(result.adjusted, [0.06, 0.025, 0.13, 0.044, 0.08])
    assert result.rejected.tolist() == [False, True, False, True, False]


def test_benjamini_hochberg_is_scipys():
    p = np.random.default_rng(0).uniform(size=20) ** 2
    np.testing.assert_array_equal(benjamini_hochberg(p).adjusted, stats.false_discovery_control(p))


def test_holm_keeps_the_family_wise_error_under_dependence():
    rng = np.random.default_rng(1)
    # Five one-sided z tests of true nulls sharing half their variance, and two planted ones.
    z = rng.normal(size=(4000, 1)) * np.sqrt(0.5) + rng.normal(size=(4000, 7)) * np.sqrt(0.5)
    z[:, 5:] += 5.0
    rejected = np.array([holm(p).rejected for p in stats.norm.sf(z)])
    assert rejected[:, :5].any(axis=1).mean() < stats.binom.ppf(0.9995, 4000, 0.05) / 4000
    assert rejected[:, 5:].mean() > 0.95


def test_benjamini_hochberg_keeps_the_false_discovery_rate():
    rng = np.random.default_rng(2)
    z = rng.normal(size=(500, 40))
    z[:, 30:] += 3.0
    rejected = np.array([benjamini_hochberg(p, 0.1).rejected for p in stats.norm.sf(z)])
    shares = rejected[:, :30].sum(axis=1) / np.maximum(rejected.sum(axis=1), 1)
    # Exactly 0.1 · 30/40 = 0.075 in the mean; 500 studies know it to 0.005.
    assert shares.mean() == pytest.approx(0.075, abs=0.018)
    assert rejected[:, 30:].mean() > 0.7


def test_names_and_errors():
    assert "P2          p 0.5, adjusted 0.5" in str(holm([0.01, 0.5], names=("P1", "P2")))
    assert holm([0.01, 0.5]).as_dict()["rejected"] == [True, False]
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        holm([0.1, 1.2])
    with pytest.raises(ValueError, match="one name per p; got 1 for 2"):
        benjamini_hochberg([0.1, 0.2], names=("one",))


def test_a_p_exactly_at_its_threshold_is_rejected():
    # 0.05 / 3 · 3 is not 0.05 in floating point on every path.
    assert holm([0.05 / 3, 0.05 / 3, 0.05 / 3]).rejected.all()
