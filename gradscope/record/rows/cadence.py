"""Which steps are recorded: every one, every K-th, log-spaced, or as a function says."""

from __future__ import annotations

import math
from collections.abc import Callable

DENSE_STEPS = 1000
ROWS_PER_DECADE = 1000

Cadence = Callable[[int], bool]


def auto(step: int) -> bool:
    """Take each step up to 1,000, then about 1,000 log-spaced steps per factor of ten.

    The same steps in every run, so that runs align and a run of any length stays small.

    >>> [step for step in range(1, 1012) if auto(step)][-5:]
    [1000, 1002, 1005, 1007, 1009]
    """
    if step <= DENSE_STEPS:
        return True
    nearest = round(ROWS_PER_DECADE * math.log10(step / DENSE_STEPS))
    return any(
        round(DENSE_STEPS * 10 ** (index / ROWS_PER_DECADE)) == step
        for index in (nearest - 1, nearest, nearest + 1)
    )


def make_cadence(every: str | int | Cadence) -> Cadence:
    """Turn the ``every`` of a user into a predicate on the step.

    Raises
    ------
    ValueError
        If it is a number below 1 or a word other than ``"auto"``.
    TypeError
        If it is of another kind.
    """
    if callable(every):
        return lambda step: bool(every(step))
    if every == "auto":
        return auto
    if isinstance(every, bool) or not isinstance(every, int | str):
        raise TypeError(f"`every` must be 'auto', an integer or step -> bool; got {every!r}")
    if isinstance(every, str) or every < 1:
        raise ValueError(
            f"`every` must be 'auto', an integer of at least 1 or step -> bool; got {every!r}"
        )
    return lambda step: (step - 1) % every == 0


def count_rows(cadence: Cadence, n_steps: int, *, limit: int = 10_000_000) -> int:
    """Count the steps of a run that are recorded, to predict its size."""
    if cadence is auto and n_steps > DENSE_STEPS:
        return DENSE_STEPS + round(ROWS_PER_DECADE * math.log10(n_steps / DENSE_STEPS))
    return sum(map(cadence, range(1, min(n_steps, limit) + 1)))
