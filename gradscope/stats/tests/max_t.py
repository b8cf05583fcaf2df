"""Max-T test: cells of a map that differ from zero, at one family-wise error rate.

Null hypothesis of a cell: its differences are symmetric about ``null`` over the units. Signs are
flipped per *unit*, identically for all cells, which preserves the correlation between cells
(neighbouring steps and layers). The p-value of a cell is the share of sign flips whose largest t in
the map is at least the t of the cell. With probability 1 − level, no true null hypothesis of the
map has p ≤ level, for any correlation between cells. This is exact if all null hypotheses are true,
and approximate if some are false.

References
----------
Westfall & Young (1993), Resampling-Based Multiple Testing, Wiley. Nichols & Holmes (2002), Hum.
Brain Mapp. 15, 1–25, doi:10.1002/hbm.1058.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradscope.stats.result import as_json, table
from gradscope.stats.sample import check_alternative, check_fraction, finite_sample
from gradscope.stats.tests.sign_flip import sign_patterns

# Sign patterns times cells held at once, in float64: 32 MiB.
_AT_ONCE = 4_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaxTResult:
    """Means, t statistics and adjusted p-values of all cells of a map.

    Parameters
    ----------
    method : str
        Name of the test.
    estimate, t, p_value : ndarray, shape of one unit's map
        Mean over units, its t statistic against ``null``, and the p-value adjusted for the whole
        map.
    critical : float
        Quantile, at the given confidence, of the largest ``|t|`` of the residuals over the map.
    low, high : ndarray
        Bounds of the simultaneous two-sided interval, estimate ± critical · standard error.
    confidence : float
        Joint coverage of all intervals.
    alternative : str
        ``"two-sided"``, ``"greater"`` or ``"less"``.
    n, n_flips : int
        Number of units and of sign patterns.
    """

    method: str
    estimate: NDArray[np.float64]
    t: NDArray[np.float64]
    p_value: NDArray[np.float64]
    critical: float
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    confidence: float
    alternative: str
    n: int
    n_flips: int

    def as_dict(self) -> dict[str, object]:
        """Return all fields with types that JSON supports."""
        return {f.name: as_json(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def __str__(self) -> str:
        """Return a table with the most significant cell."""
        cell = np.unravel_index(int(np.argmin(self.p_value)), self.p_value.shape)
        at = tuple(int(i) for i in cell)
        interval = f"[{self.low[cell]:.4g}, {self.high[cell]:.4g}]"
        n_found = np.count_nonzero(self.p_value <= 1 - self.confidence + 1e-12)
        rows = [
            ("effect", f"{n_found} of {self.p_value.size} cells differ"),
            ("clearest", f"cell {at}: mean = {self.estimate[cell]:.4g}"),
            ("interval", f"{100 * self.confidence:g} % of all cells jointly: {interval}"),
            ("p", f"{self.p_value[cell]:.3g} ({self.alternative}, whole map)"),
            ("n", str(self.n)),
        ]
        return table(self.method, rows)


def max_t(
    x: ArrayLike,
    null: float = 0.0,
    *,
    alternative: str = "two-sided",
    confidence: float = 0.95,
    n_random: int = 5_000,
    seed: int = 0,
) -> MaxTResult:
    """Test all cells of a map at one family-wise error rate.

    Parameters
    ----------
    x : array_like, shape (n, …)
        One map of differences per independent unit, n ≥ 2. The test is exact up to 16 units.
    null : float, default 0
        Centre under the null hypothesis.
    alternative : {"two-sided", "greater", "less"}, default "two-sided"
        Direction of the alternative hypothesis.
    confidence : float, default 0.95
        Joint coverage of the two-sided intervals.
    n_random, seed : int
        Number of random sign patterns for more than 16 units, and their seed.

    Returns
    -------
    MaxTResult
        A cell that equals ``null`` in every unit has t = 0 and p = 1.

    Raises
    ------
    ValueError
        For fewer than two units, values that are not finite, or unknown options.

    Examples
    --------
    The cell (1, 2, 3) has t = 3.46, and alone p = 2/8. The second cell (1, −2, 1) has t = 0, but
    flipping its second unit gives (1, 2, 1) with t = 4, so two more of the eight patterns reach
    3.46.

    >>> max_t([[1, 1], [2, -2], [3, 1]]).p_value.tolist()
    [0.5, 1.0]
    """
    maps = finite_sample(x, "x", ndim=None) - null
    check_alternative(alternative)
    check_fraction(confidence, "confidence")
    n, shape = maps.shape[0], maps.shape[1:]
    cells = maps.reshape(n, -1)
    sign = -1.0 if alternative == "less" else 1.0
    flips = sign_patterns(n, n_random=n_random, seed=seed)
    t = _flipped_t(np.ones((1, n)), cells)[0]
    observed = _side(sign * t, alternative)
    ordered = np.sort(_largest(flips, sign * cells, alternative))
    reached = ordered.size - np.searchsorted(ordered, observed - 1e-9 * (1 + np.abs(observed)))
    # Intervals use the flipped residuals, so that the effect itself does not widen them.
    residual = _largest(flips, cells - cells.mean(axis=0), "two-sided")
    critical = float(np.quantile(residual, confidence, method="higher"))
    mean, half = cells.mean(axis=0) + null, critical * cells.std(axis=0, ddof=1) / np.sqrt(n)
    return MaxTResult(
        method="max-T sign-flip test of a map",
        estimate=mean.reshape(shape),
        t=t.reshape(shape),
        p_value=(reached / ordered.size).reshape(shape),
        critical=critical,
        low=(mean - half).reshape(shape),
        high=(mean + half).reshape(shape),
        confidence=confidence,
        alternative=alternative,
        n=n,
        n_flips=len(flips),
    )


def _largest(
    flips: NDArray[np.float64], cells: NDArray[np.float64], alternative: str
) -> NDArray[np.float64]:
    """Return the largest t of the map under each pattern, in batches of patterns."""
    parts = np.array_split(flips, 1 + flips.shape[0] * cells.shape[1] // _AT_ONCE)
    return np.concatenate([_side(_flipped_t(p, cells), alternative).max(axis=1) for p in parts])


def _flipped_t(flips: NDArray[np.float64], cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return t of every cell under every pattern; the sum of squares is independent of signs."""
    n = cells.shape[0]
    mean = flips @ cells / n
    squares = np.square(cells).sum(axis=0)
    # The lower limit bounds t near 1e8 where a pattern leaves no variance.
    variance = np.maximum(squares - n * np.square(mean), 1e-16 * squares) / (n - 1)
    error = np.sqrt(variance / n)
    t: NDArray[np.float64] = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    return t


def _side(t: NDArray[np.float64], alternative: str) -> NDArray[np.float64]:
    """Return ``|t|`` for the two-sided alternative, else t."""
    return np.abs(t) if alternative == "two-sided" else t
