"""Jonckheere–Terpstra test for a predicted order of independent groups.

Null hypothesis: all groups have the same distribution. Alternative: the groups increase
stochastically from first to last, at least once strictly. J counts, over all pairs of groups i < j,
the pairs of values in which the value of the later group is larger (a tie counts ½). Page's test is
for the same units in every condition, and this test for different units in each.

Without ties, J is a sum of independent Mann–Whitney counts, each of group j against the pooled
earlier groups, so its exact distribution is a convolution. With ties, or more than 200 values, the
p-value comes from the normal approximation with a tie-corrected variance. The effect reported is (J
− J_discordant) / (number of pairs), in [−1, 1].

References
----------
Terpstra (1952), Indag. Math. 14, 327–333, doi:10.1016/S1385-7258(52)50043-X. Jonckheere (1954),
Biometrika 41, 133–145, doi:10.1093/biomet/41.1-2.133. Ties: Hollander, Wolfe & Chicken (2014),
Nonparametric Statistical Methods, 3rd ed., section 6.2, eq. 6.19, doi:10.1002/9781119196037.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from gradscope.stats.result import Result
from gradscope.stats.sample import check_alternative, finite_sample

EXACT_UP_TO = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class JonckheereResult(Result):
    """Jonckheere's J, and whether the p-value is exact."""

    statistic: float
    is_exact: bool


def jonckheere_terpstra(
    groups: Sequence[ArrayLike], *, alternative: str = "greater"
) -> JonckheereResult:
    """Test whether independent groups increase in the given order.

    Parameters
    ----------
    groups : sequence of array_like, each of shape (n_i,)
        Values of each group, in the predicted order; at least two groups.
    alternative : {"greater", "less", "two-sided"}, default "greater"
        Increase, decrease, or either.

    Returns
    -------
    JonckheereResult
        The effect is 1 if every later value exceeds every earlier one, and −1 in the reverse case.
        n is the number of all values.

    Raises
    ------
    ValueError
        For fewer than two groups, an empty group, or values that are not finite.

    Examples
    --------
    {1, 2}, {3, 5}, {4, 6}: of the 12 pairs only (5, 4) falls, so J = 11. Of the 6!/(2!2!2!) = 90
    arrangements one has J = 12 and two have J = 11: p = 3/90.

    >>> print(jonckheere_terpstra([[1, 2], [3, 5], [4, 6]]))
    Jonckheere–Terpstra test
      effect      excess of rising pairs = 0.8333
      p           0.0333 (greater)
      n           6
      statistic   11
      is exact    True
    """
    check_alternative(alternative)
    samples = [finite_sample(g, f"groups[{i}]", minimum=1) for i, g in enumerate(groups)]
    if len(samples) < 2:
        raise ValueError(f"`groups` needs at least two groups; got {len(samples)}")
    sizes = [s.size for s in samples]
    rising = sum(_count_rising(a, b) for a, b in combinations(samples, 2))
    n_pairs = sum(a * b for a, b in combinations(sizes, 2))
    pooled = np.concatenate(samples)
    is_exact = np.unique(pooled).size == pooled.size <= EXACT_UP_TO
    tails = _exact_tails(rising, sizes) if is_exact else _normal_tails(rising, pooled, sizes)
    lower, upper = tails
    p_value = {"greater": upper, "less": lower, "two-sided": min(1.0, 2 * min(lower, upper))}
    return JonckheereResult(
        method="Jonckheere–Terpstra test",
        quantity="excess of rising pairs",
        estimate=2 * rising / n_pairs - 1,
        p_value=p_value[alternative],
        alternative=alternative,
        n=pooled.size,
        statistic=rising,
        is_exact=bool(is_exact),
    )


def _count_rising(earlier: NDArray[np.float64], later: NDArray[np.float64]) -> float:
    """Mann–Whitney count of pairs that rise, a tie counting one half."""
    difference = later[None, :] - earlier[:, None]
    return float(np.count_nonzero(difference > 0) + 0.5 * np.count_nonzero(difference == 0))


def _mann_whitney_shares(m: int, n: int) -> NDArray[np.float64]:
    """P(U = 0 … m n) without ties: Gaussian binomial, product of (1 − q^(m+i)) / (1 − q^i)."""
    size = m * n + 1
    shares = np.zeros(size)
    shares[0] = 1.0
    for i in range(1, n + 1):
        grown = shares.copy()
        grown[m + i :] -= shares[: max(size - m - i, 0)]
        for offset in range(i):  # dividing by (1 − q^i) is a running sum with stride i
            grown[offset::i] = np.cumsum(grown[offset::i])
        shares = grown * (i / (m + i))  # keeps the sum at one
    return np.clip(shares, 0.0, None)


def _exact_tails(rising: float, sizes: list[int]) -> tuple[float, float]:
    """Return P(J ≤ rising) and P(J ≥ rising) as a convolution over groups."""
    shares = np.ones(1)
    for i in range(1, len(sizes)):
        shares = np.convolve(shares, _mann_whitney_shares(sum(sizes[:i]), sizes[i]))
    at = round(rising)
    lower, upper = shares[: at + 1].sum(), shares[at:].sum()
    return min(1.0, float(lower)), min(1.0, float(upper))


def _normal_tails(
    rising: float, pooled: NDArray[np.float64], sizes: list[int]
) -> tuple[float, float]:
    """Return both tails of the normal approximation with tie-corrected variance."""
    n = pooled.size
    groups = np.array(sizes, dtype=float)
    ties = np.unique(pooled, return_counts=True)[1].astype(float)
    mean = (n**2 - np.square(groups).sum()) / 4
    variance = (_first(np.array([float(n)])) - _first(groups) - _first(ties)) / 72
    if n > 2:
        variance += _second(groups) * _second(ties) / (36 * n * (n - 1) * (n - 2))
    variance += _third(groups) * _third(ties) / (8 * n * (n - 1))
    if variance <= 0:  # every value is the same
        return 1.0, 1.0
    z = (rising - mean) / math.sqrt(variance)
    return float(stats.norm.cdf(z)), float(stats.norm.sf(z))


def _first(sizes: NDArray[np.float64]) -> float:
    return float((sizes * (sizes - 1) * (2 * sizes + 5)).sum())


def _second(sizes: NDArray[np.float64]) -> float:
    return float((sizes * (sizes - 1) * (sizes - 2)).sum())


def _third(sizes: NDArray[np.float64]) -> float:
    return float((sizes * (sizes - 1)).sum())
