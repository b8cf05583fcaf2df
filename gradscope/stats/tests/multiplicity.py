"""Adjustment of p-values for several tests: Holm and Benjamini–Hochberg.

Holm's method controls the probability of *any* false rejection under any dependence. The sorted
p_(1) ≤ … ≤ p_(m) are adjusted to max_{j ≤ i} min(1, (m − j + 1) p_(j)). Use it for a few hypotheses
declared in advance. Benjamini–Hochberg controls the expected *share* of false rejections for
independent or positively dependent tests. p_(i) is adjusted to min_{j ≥ i} min(1, m p_(j) / j). Use
it for many exploratory tests.

References
----------
Holm (1979), Scand. J. Stat. 6, 65–70. Benjamini & Hochberg (1995), J. R. Stat. Soc. B 57, 289–300,
doi:10.1111/j.2517-6161.1995.tb02031.x; computed by ``scipy.stats.false_discovery_control``.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from gradscope.stats.result import as_json, table
from gradscope.stats.sample import check_fraction, finite_sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdjustedP:
    """P-values of several tests before and after adjustment.

    Parameters
    ----------
    method : str
        Name of the adjustment.
    names : tuple of str
        One name per test.
    raw, adjusted : ndarray, shape (m,)
        P-values before and after adjustment; compare ``adjusted`` with ``level``.
    level : float
        Family-wise error (Holm) or false discovery rate (Benjamini–Hochberg).
    rejected : ndarray of bool, shape (m,)
        ``adjusted <= level``.
    """

    method: str
    names: tuple[str, ...]
    raw: NDArray[np.float64]
    adjusted: NDArray[np.float64]
    level: float
    rejected: NDArray[np.bool_]

    def as_dict(self) -> dict[str, object]:
        """Return all fields with types that JSON supports."""
        return {f.name: as_json(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def __str__(self) -> str:
        """Return a table with one row per test."""
        marks = ["rejected" if r else "" for r in self.rejected]
        rows = [
            (name, f"p {raw:.3g}, adjusted {adjusted:.3g} {mark}".rstrip())
            for name, raw, adjusted, mark in zip(
                self.names, self.raw, self.adjusted, marks, strict=True
            )
        ]
        return table(f"{self.method}, level {self.level:g}", rows)


def holm(
    p_values: ArrayLike, level: float = 0.05, *, names: tuple[str, ...] | None = None
) -> AdjustedP:
    """Adjust p-values to control the probability of any false rejection (Holm).

    Parameters
    ----------
    p_values : array_like, shape (m,)
        One p-value per test, in [0, 1].
    level : float, default 0.05
        Family-wise error rate.
    names : tuple of str, optional
        Names of the tests; their positions by default.

    Returns
    -------
    AdjustedP

    Raises
    ------
    ValueError
        For p-values outside [0, 1], or a wrong number of names.

    Examples
    --------
    The sorted values 0.01, 0.03, 0.04 are multiplied by 3, 2, 1 to give 0.03, 0.06, and 0.04, which
    is raised to 0.06.

    >>> print(holm([0.01, 0.04, 0.03]))
    Holm, level 0.05
      1           p 0.01, adjusted 0.03 rejected
      2           p 0.04, adjusted 0.06
      3           p 0.03, adjusted 0.06
    """
    raw = _checked(p_values)
    order = np.argsort(raw, kind="stable")
    steps = np.minimum(raw[order] * np.arange(raw.size, 0, -1), 1.0)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.maximum.accumulate(steps)
    return _gathered("Holm", raw, adjusted, level, names)


def benjamini_hochberg(
    p_values: ArrayLike, level: float = 0.05, *, names: tuple[str, ...] | None = None
) -> AdjustedP:
    """Adjust p-values to control the expected share of false rejections (Benjamini–Hochberg).

    Parameters
    ----------
    p_values : array_like, shape (m,)
        One p-value per test, in [0, 1].
    level : float, default 0.05
        False discovery rate.
    names : tuple of str, optional
        Names of the tests; their positions by default.

    Returns
    -------
    AdjustedP

    Raises
    ------
    ValueError
        For p-values outside [0, 1], or a wrong number of names.

    Examples
    --------
    The sorted values 0.01, 0.03, 0.04 are multiplied by 3/1, 3/2, 3/3 to give 0.03, 0.045, which is
    lowered to 0.04, and 0.04.

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).adjusted.tolist()
    [0.03, 0.04, 0.04]
    """
    raw = _checked(p_values)
    adjusted = stats.false_discovery_control(raw, method="bh")
    return _gathered("Benjamini–Hochberg", raw, adjusted, level, names)


def _checked(p_values: ArrayLike) -> NDArray[np.float64]:
    raw = finite_sample(p_values, "p_values", minimum=1)
    if raw.min() < 0 or raw.max() > 1:
        raise ValueError(f"`p_values` must lie in [0, 1]; got {raw.min()} to {raw.max()}")
    return raw


def _gathered(
    method: str,
    raw: NDArray[np.float64],
    adjusted: NDArray[np.float64],
    level: float,
    names: tuple[str, ...] | None,
) -> AdjustedP:
    """Build the result; the comparison with the level tolerates rounding in the last bit."""
    labels = tuple(str(i + 1) for i in range(raw.size)) if names is None else tuple(names)
    if len(labels) != raw.size:
        raise ValueError(f"`names` needs one name per p; got {len(labels)} for {raw.size}")
    return AdjustedP(
        method=method,
        names=labels,
        raw=raw,
        adjusted=adjusted,
        level=check_fraction(level, "level"),
        rejected=adjusted <= level * (1 + 1e-12),
    )
