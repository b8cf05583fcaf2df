"""Values of options that several commands read in the same way."""

from __future__ import annotations

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
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--alphas takes numbers between commas; got {text!r}") from None
