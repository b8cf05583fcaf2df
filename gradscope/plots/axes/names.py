"""Short names of layers and parameters that stay different from each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

MAX_CHARACTERS = 26
MIN_PART = 5
"""Letters, the ellipsis among them, that are left of a part of a name."""


def short_names(names: Iterable[str]) -> list[str]:
    """Shorten qualified names as far as they stay different from each other.

    A last ``.weight`` goes when every name is of a weight, and so do leading parts that (nearly)
    all share.

    >>> short_names(["net.stem.weight", "net.blocks.0.fc.weight", "net.head.weight"])
    ['stem', 'blocks.0.fc', 'head']
    """
    return clip_apart(bare_names(names))


def bare_names(names: Iterable[str]) -> list[str]:
    """Leave out what the names share."""
    short = [str(name) for name in names]
    if all(name.endswith("weight") for name in short):
        short = [name.removesuffix(".weight") for name in short]
    while (fewer := _without_common_head(short)) is not None:
        short = fewer
    return short


def clip_apart(names: Sequence[str], n_characters: int = MAX_CHARACTERS) -> list[str]:
    """Shorten long names so that names that differ stay different.

    The middle goes, or the beginning where that keeps them apart in fewer letters, or the end of
    every part; names that need more than `MAX_CHARACTERS` keep what is not shared.

    >>> clip_apart(["the_block_1_of_many.bias", "the_block_2_of_many.bias"], 12)
    ['…1_of_many.bias', '…2_of_many.bias']
    >>> clip_apart([f"blocks.{i}.{at}.projection" for i in (0, 1) for at in ("key", "value")], 14)
    ['…0.key.proj…', '…0.value.proj…', '…1.key.proj…', '…1.value.proj…']
    """
    n_different = len(set(names))
    for n in range(n_characters, max(n_characters, MAX_CHARACTERS) + 1):
        for short in (
            [ellipsis(name, n) for name in names],
            [_without_beginning(name, n) for name in names],
            _clip_parts(names, n),
        ):
            if len(set(short)) == n_different:
                return short
    n_before = _n_shared(names)
    own = [name[max(n_before - 3, 0) :] for name in names]
    n_after = _n_shared([name[::-1] for name in own])
    own = [f"…{name[: len(name) - max(n_after - 3, 0)]}…" for name in own]
    return own if max(map(len, own)) < max(map(len, names)) else list(names)


def _without_beginning(name: str, n_characters: int) -> str:
    """Leave out the beginning, and the few letters that it would leave of a part.

    >>> _without_beginning("blocks.26.conv2", 14)
    '…26.conv2'
    """
    if len(name) <= n_characters:
        return name
    end = name[1 - n_characters :]
    part, _, rest = end.partition(".")
    return f"…{rest if rest and len(part) < MIN_PART else end}"


def _clip_parts(names: Sequence[str], n_characters: int) -> list[str]:
    """Clip every part of dotted names to as many letters as fit; empty where they do not fit.

    A first part that most names share is left out.
    """
    heads = [name.partition(".")[0] for name in names if "." in name]
    head = max(heads, key=heads.count, default="")
    start = f"{head}." if 2 * heads.count(head) > len(names) else ""
    bare = [name.removeprefix(start) for name in names]
    parts = [name.split(".") if "." in name else [ellipsis(name, n_characters)] for name in bare]
    signs = ["…" if start and name.startswith(start) else "" for name in names]
    longest = max((len(part) for own in parts for part in own), default=0)
    for n in range(longest, MIN_PART - 1, -1):
        short = [
            sign + ".".join(_clip(part, n) if len(own) > 1 else part for part in own)
            for sign, own in zip(signs, parts, strict=True)
        ]
        if max(map(len, short)) <= n_characters:
            return short
    return []


def _clip(part: str, n_characters: int) -> str:
    return part if len(part) <= n_characters else f"{part[: n_characters - 1]}…"


def _n_shared(names: Sequence[str]) -> int:
    """Return how many letters all names begin with."""
    alike = (len(set(letters)) == 1 for letters in zip(*names, strict=False))
    return sum(takewhile(bool, alike))


def _without_common_head(names: list[str]) -> list[str] | None:
    """Drop the first part if three quarters of the names share it; None if not useful."""
    heads = [name.partition(".")[0] for name in names]
    head = max(heads, key=heads.count, default="")
    tails = [name.removeprefix(f"{head}.") for name in names]
    bare_number = any(tail[:1].isdigit() for tail in tails)
    shared = sum(name != tail for name, tail in zip(names, tails, strict=True))
    is_useful = len(names) > 1 and shared > 0.75 * len(names) and not bare_number
    return tails if is_useful and len(set(tails)) == len(set(names)) else None


def ellipsis(name: str, n_characters: int = MAX_CHARACTERS) -> str:
    """Leave out the middle of a long name; its last part, which tells layers apart, stays.

    >>> ellipsis("layers_of_the_encoder.11", 14)
    'layers_of_….11'
    """
    if len(name) <= n_characters:
        return name
    last = len(name) - name.rfind(".") if "." in name else 0
    tail = last if 0 < last <= n_characters // 2 else n_characters // 2
    return f"{name[: n_characters - 1 - tail]}…{name[-tail:]}"
