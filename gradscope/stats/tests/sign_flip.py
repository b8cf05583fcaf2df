"""Sign-flip permutation test of paired differences, exact for few units.

Null hypothesis: the difference of each unit is symmetric about ``null``. For paired arms, this
means that the arms of a seed are exchangeable. The sign of every unit may then be flipped, and the
mean is compared with its 2^n equally likely values. Up to 16 units, all of them are enumerated and
the p-value is exact, but never below 2^(1−n) two-sided. For more units, random flips are drawn and
counted together with the data, so the p-value remains valid.

The interval inverts the test. By Hartigan's theorem, the centre of symmetry falls between any two
neighbours of the sorted 2^n − 1 means of non-empty subsets with probability 2^−n. Removing ⌊2^n ·
(1 − confidence) / 2⌋ of these gaps at each end leaves an exact interval. The interval is infinite
if n is too small for the confidence level; 95 % needs six units.

References
----------
Fisher (1935), The Design of Experiments, section 21. Hartigan (1969), J. Am. Stat. Assoc. 64,
1303–1317, doi:10.1080/01621459.1969.10501057. Random flips: Phipson & Smyth (2010), Stat. Appl.
Genet. Mol. Biol. 9, 39, arXiv:1603.05766.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradscope.stats.result import Result
from gradscope.stats.sample import check_alternative, check_fraction, finite_sample

EXACT_UP_TO = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignFlipResult(Result):
    """Result of the test, with the number of sign patterns and whether they are exhaustive."""

    n_flips: int
    is_exact: bool


def sign_flip(
    x: ArrayLike,
    null: float = 0.0,
    *,
    alternative: str = "two-sided",
    confidence: float = 0.95,
    n_random: int = 20_000,
    seed: int = 0,
) -> SignFlipResult:
    """Test whether paired differences are centred on ``null``.

    Parameters
    ----------
    x : array_like, shape (n,)
        One difference per independent unit, n ≥ 2.
    null : float, default 0
        Centre under the null hypothesis.
    alternative : {"two-sided", "greater", "less"}, default "two-sided"
        Direction of the alternative hypothesis.
    confidence : float, default 0.95
        Coverage of the two-sided interval.
    n_random : int, default 20000
        Number of random sign patterns (and random subsets) for more than 16 units.
    seed : int, default 0
        Seed of the random patterns.

    Returns
    -------
    SignFlipResult
        Mean difference with Hartigan's interval.

    Raises
    ------
    ValueError
        For fewer than two units, values that are not finite, or unknown options.

    Notes
    -----
    Skewed differences violate the symmetry assumption. Paired differences of exchangeable arms are
    symmetric even if each arm is skewed.

    Examples
    --------
    Of the eight sign patterns of (1, 2, 3), only two give a mean as far from 0 as 2, so p is 2/8
    two-sided and 1/8 one-sided. Three seeds cannot give a smaller p-value.

    >>> sign_flip([1, 2, 3]).p_value, sign_flip([1, 2, 3], alternative="greater").p_value
    (0.25, 0.125)
    """
    sample = finite_sample(x, "x")
    check_alternative(alternative)
    check_fraction(confidence, "confidence")
    flips = sign_patterns(sample.size, n_random=n_random, seed=seed)
    low, high = _typical_value_interval(sample, flips, confidence)
    return SignFlipResult(
        method="sign-flip permutation test",
        quantity="mean difference",
        estimate=float(sample.mean()),
        low=low,
        high=high,
        confidence=confidence,
        p_value=_p_value(sample - null, flips, alternative),
        alternative=alternative,
        n=sample.size,
        n_flips=len(flips),
        is_exact=sample.size <= EXACT_UP_TO,
    )


def sign_patterns(n: int, *, n_random: int, seed: int) -> NDArray[np.float64]:
    """Return sign patterns of n units, identity first: all 2^n up to 16 units, else random ones.

    Returns
    -------
    ndarray of ±1, shape (n_flips, n)

    Examples
    --------
    >>> sign_patterns(2, n_random=100, seed=0).tolist()
    [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]
    """
    if n <= EXACT_UP_TO:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        bits = np.random.default_rng(seed).integers(0, 2, size=(n_random + 1, n))
        bits[0] = 0
    return np.where(bits == 0, 1.0, -1.0)


def _p_value(centred: NDArray[np.float64], flips: NDArray[np.float64], alternative: str) -> float:
    """Share of patterns whose sum is at least as extreme, with a tolerance for rounding."""
    sums = flips @ centred
    if alternative == "two-sided":
        sums = np.abs(sums)
    elif alternative == "less":
        sums = -sums
    slack = 1e-12 * np.abs(centred).sum()
    return float(np.mean(sums >= sums[0] - slack))


def _typical_value_interval(
    x: NDArray[np.float64], flips: NDArray[np.float64], confidence: float
) -> tuple[float, float]:
    """Hartigan's interval from the means of the subsets that the patterns flip."""
    chosen = (flips < 0).astype(float)
    counts = chosen.sum(axis=1)
    means = np.sort((chosen @ x)[counts > 0] / counts[counts > 0])
    # The tolerance keeps 0.025 · 2^n from rounding to below an integer.
    cut = math.floor((1 - confidence) / 2 * (means.size + 1) + 1e-9)
    if cut == 0:
        return -math.inf, math.inf
    return float(means[cut - 1]), float(means[means.size - cut])
