"""Number of seeds that a design needs.

Two limits apply. A sign-flip test of n units cannot give a p-value below 2^(1−n) two-sided, or 2^−n
one-sided. A design whose smallest attainable p exceeds its threshold cannot reject. A paired t test
of a standardised effect d = mean / s has power P(|T| > t_{1−a/2}), T ~ noncentral t with n − 1
degrees of freedom and noncentrality d √n. The sign-flip test has nearly the same power for normal
differences.

References
----------
Pitman (1937), Suppl. J. R. Stat. Soc. 4, 119–130, doi:10.2307/2984124. Cohen (1988), Statistical
Power Analysis for the Behavioral Sciences, 2nd ed., doi:10.4324/9780203771587.
"""

from __future__ import annotations

import math

from scipy import stats

from gradscope.stats.sample import check_alternative, check_fraction

# Limit of the search for a number of seeds.
MOST_SEEDS = 100_000


def smallest_attainable_p(n: int, *, alternative: str = "two-sided") -> float:
    """Return the smallest p-value that a sign-flip test of n units can give.

    Parameters
    ----------
    n : int
        Number of units (seeds), at least 1.
    alternative : {"two-sided", "greater", "less"}, default "two-sided"
        Direction of the alternative hypothesis.

    Raises
    ------
    ValueError
        For n below 1 or an unknown alternative.

    Examples
    --------
    >>> [smallest_attainable_p(n) for n in (3, 8, 10)]
    [0.25, 0.0078125, 0.001953125]
    """
    check_alternative(alternative)
    if n < 1:
        raise ValueError(f"`n` must be at least 1; got {n}")
    return min(1.0, 2.0 ** (1 - n if alternative == "two-sided" else -n))


def seeds_to_attain(threshold: float, *, alternative: str = "two-sided") -> int:
    """Return the smallest number of units whose smallest attainable p reaches a threshold.

    Parameters
    ----------
    threshold : float
        Level that p must reach after any correction, such as 0.05 / 5 for the strictest of five
        tests by Holm.
    alternative : {"two-sided", "greater", "less"}, default "two-sided"
        Direction of the alternative hypothesis.

    Raises
    ------
    ValueError
        For a threshold outside (0, 1) or an unknown alternative.

    Examples
    --------
    2^(1−7) = 0.0156 misses 0.01, 2^(1−8) = 0.0078 reaches it.

    >>> seeds_to_attain(0.01)
    8
    """
    check_fraction(threshold, "threshold")
    n = 1
    while smallest_attainable_p(n, alternative=alternative) > threshold:
        n += 1
    return n


def paired_t_power(
    effect_size: float, n: int, *, level: float = 0.05, alternative: str = "two-sided"
) -> float:
    """Return the power of a paired t test.

    Parameters
    ----------
    effect_size : float
        d = true mean difference / standard deviation of the differences.
    n : int
        Number of pairs (seeds), at least 2.
    level : float, default 0.05
        Level of the test, after any correction.
    alternative : {"two-sided", "greater", "less"}, default "two-sided"
        Direction of the alternative hypothesis.

    Raises
    ------
    ValueError
        For n below 2, a level outside (0, 1) or an unknown alternative.

    Examples
    --------
    d = 0.5 with 34 pairs, the textbook design for power 0.8:

    >>> round(paired_t_power(0.5, 34), 2)
    0.81
    """
    check_alternative(alternative)
    check_fraction(level, "level")
    if n < 2:
        raise ValueError(f"`n` must be at least 2; got {n}")
    shift = effect_size * math.sqrt(n)
    if alternative != "two-sided":
        side = shift if alternative == "greater" else -shift
        return float(stats.nct.sf(stats.t.ppf(1 - level, n - 1), n - 1, side))
    critical = stats.t.ppf(1 - level / 2, n - 1)
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))


def needed_seeds(
    effect_size: float, power: float = 0.8, *, level: float = 0.05, alternative: str = "two-sided"
) -> int:
    """Return the smallest number of pairs that detects an effect with the given power.

    Parameters
    ----------
    effect_size : float
        d = smallest effect of interest / standard deviation of the differences, not zero.
    power : float, default 0.8
        Probability of detecting the effect.
    level : float, default 0.05
        Level of the test, after any correction.
    alternative : {"two-sided", "greater", "less"}, default "two-sided"
        Direction of the alternative hypothesis.

    Returns
    -------
    int
        Sufficient for the power of the t test *and* for the sign-flip test to attain the level.

    Raises
    ------
    ValueError
        For options out of range, or an effect that needs more than 100,000 seeds.

    Examples
    --------
    A power of 0.80 at d = 0.5 needs 34 pairs. A very large effect still needs six seeds for a
    sign-flip p-value to reach 0.05.

    >>> needed_seeds(0.5), needed_seeds(10.0)
    (34, 6)
    """
    check_fraction(power, "power")
    low = max(2, seeds_to_attain(level, alternative=alternative))

    def reaches(n: int) -> bool:
        return paired_t_power(effect_size, n, level=level, alternative=alternative) >= power

    high = low
    while not reaches(high):
        low, high = high + 1, 2 * high
        if high > MOST_SEEDS:
            raise ValueError(
                f"an effect of {effect_size} standard deviations ({alternative}) needs more than "
                f"{MOST_SEEDS} seeds for power {power}; measure more precisely instead"
            )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low
