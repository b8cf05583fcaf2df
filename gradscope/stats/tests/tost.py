"""TOST equivalence test: two one-sided t tests for a negligible effect.

Null hypothesis: the mean lies at or outside ±margin. Equivalence is shown if both one-sided tests
reject in favour of mean > −margin and mean < +margin; the p-value is the larger of the two. At
level a this is equivalent to the 1 − 2a interval, which is the one returned, lying within the
margins. The margin is the smallest effect of interest and must be fixed before the data are seen. A
large p-value of an ordinary test is not evidence of absence.

References
----------
Schuirmann (1987), J. Pharmacokinet. Biopharm. 15, 657–680, doi:10.1007/BF01068419. Lakens (2017),
Soc. Psychol. Pers. Sci. 8, 355–362, doi:10.1177/1948550617697177.
"""

from __future__ import annotations

import dataclasses
import math

from numpy.typing import ArrayLike
from scipy import stats

from gradscope.stats.intervals.student_t import mean_and_error, t_p_value
from gradscope.stats.result import Result
from gradscope.stats.sample import check_fraction, finite_sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class TostResult(Result):
    """Both one-sided p-values, the margin, and whether equivalence is shown at the level."""

    margin: float
    p_above_low: float
    p_below_high: float
    is_equivalent: bool


def tost(x: ArrayLike, margin: float, *, level: float = 0.05) -> TostResult:
    """Test whether a mean (of paired differences) lies within ±margin.

    Parameters
    ----------
    x : array_like, shape (n,)
        One difference per independent unit, n ≥ 2.
    margin : float
        Smallest effect of interest, positive, in the unit of x.
    level : float, default 0.05
        Error rate; the interval has confidence 1 − 2 · level.

    Returns
    -------
    TostResult
        A small p-value *supports* "no effect as large as the margin".

    Raises
    ------
    ValueError
        For a margin that is not positive, fewer than two units, or values that are not finite.

    Examples
    --------
    The mean is 0, s = √2.5, and the standard error 0.7071. With margin 2, both t are 2 / 0.7071 =
    2.828 with 4 degrees of freedom, so p = 0.0237. The 95 % point of t is 2.132, so the 90 %
    interval is ± 1.507.

    >>> result = tost([-2, -1, 0, 1, 2], margin=2)
    >>> round(result.p_value, 4), round(result.high, 3), result.is_equivalent
    (0.0237, 1.507, True)
    """
    sample = finite_sample(x, "x")
    check_fraction(level, "level")
    if not (margin > 0 and math.isfinite(margin)):
        raise ValueError(f"`margin` must be positive and finite; got {margin}")
    n, (mean, error) = sample.size, mean_and_error(sample)
    half = float(stats.t.ppf(1 - level, n - 1)) * error
    p_above = t_p_value(mean + margin, error, n - 1, alternative="greater")
    p_below = t_p_value(mean - margin, error, n - 1, alternative="less")
    p_value = max(p_above, p_below)
    return TostResult(
        method="two one-sided t tests (equivalence)",
        quantity="mean",
        estimate=mean,
        low=mean - half,
        high=mean + half,
        confidence=1 - 2 * level,
        p_value=p_value,
        alternative="within the margin",
        n=n,
        margin=float(margin),
        p_above_low=p_above,
        p_below_high=p_below,
        is_equivalent=p_value <= level,
    )
