"""Combination of appended blocks of rows into the arrays of a segment."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradscope.store.format import layout

Block = dict[str, np.ndarray]


def n_bytes(groups: Mapping[str, list[Block]]) -> int:
    """Return the memory that the rows of all groups take."""
    arrays = (array for blocks in groups.values() for block in blocks for array in block.values())
    return sum(array.nbytes for array in arrays)


def combine(group: str, blocks: list[Block]) -> Block:
    """Concatenate blocks; variables that a block lacks are missing in its rows.

    In open groups, to which users log, rows of the same step are combined into one row with the
    latest values.
    """
    row_dim = layout.row_dim(group)
    lengths = [len(block[row_dim]) for block in blocks]
    names = dict.fromkeys(name for block in blocks for name in block)
    joined = {name: _join(name, blocks, lengths) for name in names}
    steps = joined[row_dim]
    if layout.declared_group(group).is_open and (steps[1:] == steps[:-1]).any():
        return _one_row_a_step(joined, steps)
    return joined


def repeat_last(group: str, last: Block, blocks: list[Block]) -> list[Block]:
    """Prepend the last written row if its step continues, so that the later file counts."""
    row_dim = layout.row_dim(group)
    is_continued = layout.declared_group(group).is_open and last[row_dim] == blocks[0][row_dim][0]
    return [last, *blocks] if is_continued else blocks


def _join(name: str, blocks: list[Block], lengths: list[int]) -> np.ndarray:
    example = next(block[name] for block in blocks if name in block)
    empty = layout.missing(example.dtype)
    parts = [
        block[name] if name in block else np.full((n, *example.shape[1:]), empty, example.dtype)
        for block, n in zip(blocks, lengths, strict=True)
    ]
    return np.concatenate(parts)


def _one_row_a_step(joined: Block, steps: np.ndarray) -> Block:
    """Combine rows of equal steps, keeping the latest value that is not missing."""
    unique, place = np.unique(steps, return_inverse=True)
    merged = {}
    for name, values in joined.items():
        empty = layout.missing(values.dtype)
        target = np.full((len(unique), *values.shape[1:]), empty, values.dtype)
        is_there = ~np.isnan(values) if values.dtype.kind == "f" else values != empty
        for row, step in enumerate(place):
            target[step] = np.where(is_there[row], values[row], target[step])
        merged[name] = target
    return merged
