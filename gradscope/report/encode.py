"""Encoding of numbers in the page: two bytes per value, gzip, base64."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from gradscope.derived.cells import NONFINITE, NUMBER, OTHER, states_of

CODES = {"missing": 0, "zero": 1, "nonfinite": 2, "other": 3}
FIRST = 4
"""Codes that are no numbers; from ``FIRST`` on, even codes are positive and odd ones negative.

``other`` is a step of another optimizer.
"""

LEVELS = (2**16 - FIRST) // 2


@dataclass(frozen=True)
class Grid:
    """Rows of numbers in two bytes each, with a sign, by the logarithm of their size.

    ``codes`` has the shape (rows, columns), dtype uint16. A value of row r with the code c is
    ``exp(low[r] + k * step[r])``, k = (c - FIRST) // 2, negative where c is odd.
    """

    codes: np.ndarray
    low: np.ndarray
    step: np.ndarray

    @property
    def precision(self) -> float:
        """Largest relative error of a value."""
        return float(np.expm1(self.step.max(initial=0.0) / 2))


def encode(values: np.ndarray, states: np.ndarray | None = None) -> Grid:
    """Round each row to levels evenly spaced in the logarithm, between its smallest and largest.

    Parameters
    ----------
    values : ndarray, shape (rows, columns)
        Any sign; zeros, missing values (NaN) and infinite ones are kept apart.
    states : ndarray, shape (rows, columns), optional
        Codes of `gradscope.derived.cells`; by default from the values.
    """
    values = np.asarray(values, dtype=np.float64)
    states = states_of(xr.DataArray(values)) if states is None else states
    is_number = (states == NUMBER) & np.isfinite(values) & (values != 0)
    logs = np.log(np.abs(np.where(is_number, values, 1.0)))
    low = np.where(is_number, logs, np.inf).min(axis=1, initial=np.inf)
    high = np.where(is_number, logs, -np.inf).max(axis=1, initial=-np.inf)
    low, high = np.where(high >= low, low, 0.0), np.where(high >= low, high, 0.0)
    step = (high - low) / (LEVELS - 1)
    # Rows of equal values have step 0, so any divisor is valid.
    levels = np.rint((logs - low[:, None]) / np.where(step > 0, step, 1.0)[:, None])
    codes = np.full(values.shape, CODES["missing"])
    codes[is_number] = (FIRST + 2 * levels + (values < 0))[is_number]
    codes[(states == NUMBER) & (values == 0)] = CODES["zero"]
    codes[states == NONFINITE] = CODES["nonfinite"]
    codes[states == OTHER] = CODES["other"]
    return Grid(codes.astype(np.uint16), low, step)


def decode(grid: Grid) -> np.ndarray:
    """Return the numbers, as the page does; NaN and infinity where there is none."""
    codes = grid.codes.astype(np.int64)
    level = (codes - FIRST) // 2
    sizes = np.exp(grid.low[:, None] + np.where(codes >= FIRST, level, 0) * grid.step[:, None])
    values = np.where(codes % 2 == FIRST % 2, sizes, -sizes)
    shown = {"missing": np.nan, "zero": 0.0, "nonfinite": np.inf, "other": np.nan}
    for kind, code in CODES.items():
        values[codes == code] = shown[kind]
    return np.asarray(values)


def as_base64(array: np.ndarray, dtype: str) -> str:
    """Write an array as base64 of its little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=f"<{dtype}").tobytes()).decode()


def pack(text: str) -> str:
    """Compress a text into base64; the same text gives the same characters."""
    return base64.b64encode(gzip.compress(text.encode("utf-8"), 9, mtime=0)).decode()


def unpack(packed: str) -> str:
    """Undo `pack`."""
    return gzip.decompress(base64.b64decode(packed)).decode("utf-8")


def to_json(value: Any) -> str:
    """Write JSON without spaces; NaN and infinity are refused, they are no JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
