"""``/histograms``: entries of gradients and second moments, counted by factors of two."""

from __future__ import annotations

from functools import partial

from gradscope.schema.variable import (
    AFTER,
    BEFORE,
    NOT_NEGATIVE,
    SUM,
    Group,
    Phase,
    Variable,
    by_name,
)

GRAD_BIN_RANGE = (-80, 15)
"""First and last ``grad_bin``: bin b counts entries with 2**b <= abs(g) < 2**(b + 1)."""

MOMENT_BIN_RANGE = (-149, 31)
"""First and last ``moment_bin``: bin b counts entries with 2**b <= v < 2**(b + 1)."""

_OUTSIDE = {
    "zero": "exactly zero",
    "under": "below the first bin",
    "over": "above the last bin",
    "nonfinite": "not finite",
}
_count = partial(
    Variable, reduction="count", dtype="int64", aggregation=SUM, scale="log", bounds=NOT_NEGATIVE
)


def _outside(name: str, words: str, phase: Phase) -> list[Variable]:
    """Declare the counts of entries that lie in no bin of a histogram."""
    return [
        _count(
            name=f"{name}_{where}",
            dims=("step", "param"),
            long_name=f"{words} entries {description}",
            phase=phase,
        )
        for where, description in _OUTSIDE.items()
    ]


HISTOGRAMS = Group(
    "histograms",
    ("step", "param"),
    "Counts by factors of two, in the same bins everywhere, so that they add.",
    by_name(
        _count(
            name="grad_histogram",
            dims=("step", "param", "grad_bin"),
            long_name="gradient entries by log2 magnitude",
            formula="#(2^b <= |g| < 2^(b+1))",
            phase=BEFORE,
        ),
        _count(
            name="exp_avg_sq_histogram",
            dims=("step", "param", "moment_bin"),
            long_name="second-moment entries by log2",
            formula="#(2^b <= v < 2^(b+1))",
            phase=AFTER,
        ),
        *_outside("grad_histogram", "gradient", BEFORE),
        *_outside("exp_avg_sq_histogram", "second-moment", AFTER),
    ),
)
