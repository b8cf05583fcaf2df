"""Values of options that several commands read in the same way."""

from __future__ import annotations

import argparse
import math

from gradscope.errors import UsageError


def read_steps(text: str) -> tuple[int | None, int | None]:
    """Read ``A:B``.

    Raises
    ------
    UsageError
        If it is something else.
    """
    first, colon, last = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return (int(first) if first else None, int(last) if last else None)
    except ValueError:
        raise UsageError(f"--steps takes A:B, as 1:500, 100: or :50; got {text!r}") from None


def read_numbers(text: str) -> tuple[float, ...]:
    """Read numbers between commas.

    Raises
    ------
    UsageError
        If one is no number.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
        if not all(map(math.isfinite, numbers)):
            raise ValueError
    except ValueError:
        raise UsageError(f"--alphas takes numbers between commas; got {text!r}") from None
    return numbers


def read_overhead(arguments: argparse.Namespace) -> float | None:
    """Read ``--max-overhead``: 2% or 0.02; None where it is not given.

    Raises
    ------
    UsageError
        If it is no share above 0, or if ``--every`` is given too.
    """
    text = arguments.max_overhead
    if text is None:
        return None
    if hasattr(arguments, "key_every"):
        raise UsageError("--max-overhead chooses which steps are recorded; leave out --every")
    number = text.removesuffix("%")
    try:
        share = float(number) / (100 if number != text else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"--max-overhead takes a share such as 2% or 0.02; got {text!r}")
    return share
