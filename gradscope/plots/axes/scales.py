"""Scales of quantities, and readable ticks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    SymmetricalLogLocator,
)

from gradscope import schema

TAIL = 0.001
"""Share of values at each end that may lie beyond the colours, when they would stretch them."""

LOW_DECADES = 3.0
"""Factors of ten below the other rows from which a row does not stretch the colours."""

LADDERS = (
    (1e3, 1e6),
    (1e2, 1e4),
    (1e1, 1e2),
    (2, 5, 10),
    (2, 4),
    (1.5, 3),
    (1.5, 2),
    (1.2, 1.5),
    (1.1, 1.2),
    (1.05, 1.1),
    (1.02, 1.05),
    (1.01, 1.02),
    (1.005, 1.01),
)
"""Factors to put ticks at, by how far a map of ratios reaches."""

DIGITS = ((1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0), (1.0, 3.0), (1.0,))
"""Digits to put ticks at on a log axis; the first that give at least two and have room."""


@dataclass(frozen=True)
class Scale:
    """Mapping of values to colours or heights.

    ``kind`` is "log" for magnitudes, "linear" for shares and logarithms, "diverging" for signed
    quantities, "symlog" for those over many factors of ten, "ratio" for natural logarithms of
    ratios. ``extend`` says at which end some values lie beyond the limits.
    """

    kind: str
    low: float
    high: float
    threshold: float = 0.0
    extend: str = "neither"
    note: str = ""

    @property
    def norm(self) -> Normalize:
        """A fresh norm for a mesh."""
        if self.kind == "log":
            return LogNorm(self.low, self.high)
        if self.kind == "symlog":
            return SymLogNorm(self.threshold, vmin=self.low, vmax=self.high)
        return Normalize(self.low, self.high)

    @property
    def cmap(self) -> str:
        """Colour-blind safe maps; the one for magnitudes is also monotone in grey."""
        return "RdBu_r" if self.kind in ("diverging", "symlog", "ratio") else "viridis"


def declared_kind(data: xr.DataArray) -> schema.Scale:
    """Return how the schema, or for a variable that users added its attributes, say to draw it."""
    return schema.declaration(str(data.name), data.attrs).scale


def scale_of(values: np.ndarray, kind: schema.Scale = "auto") -> Scale:
    """Choose a scale from the values and from how they are declared to be drawn.

    Parameters
    ----------
    values : ndarray
        Any shape; values that are not finite are left out.
    kind : {"auto", "log", "linear", "signed", "share"}
        As declared in `gradscope.schema`; magnitudes with a negative value are drawn as signed.

    Returns
    -------
    Scale
        From 0 to 1 where no value is finite.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return Scale("linear", 0.0, 1.0)
    if kind in ("linear", "share"):
        low, high = _padded(float(finite.min()), float(finite.max()))
        return Scale("linear", low, high)
    if kind == "signed" or finite.min() < 0:
        return _signed(finite)
    positive = finite[finite > 0]
    if positive.size == 0:
        return Scale("linear", 0.0, 1.0)
    ends = np.array([positive.min(), positive.max()], dtype=float)
    bulk = np.quantile(positive, [TAIL, 1 - TAIL]).astype(float)
    # A tail is cut only where a few values would take more than a fifth of the colours.
    enough = 0.25 * np.log(max(bulk[1] / bulk[0], 1.05))
    low = bulk[0] if np.log(bulk[0] / ends[0]) > enough else ends[0]
    high = bulk[1] if np.log(ends[1] / bulk[1]) > enough else ends[1]
    if low == high:
        low, high = low / 1.1, high * 1.1
    return Scale("log", float(low), float(high), extend=_extend(ends, low, high))


def scale_of_rows(values: np.ndarray, kind: schema.Scale = "auto") -> Scale:
    """Choose a scale that a few rows near zero do not stretch.

    Parameters
    ----------
    values : ndarray, shape (n_steps, n_rows)
    kind : str
        As in `scale_of`.

    Returns
    -------
    Scale
        Logarithmic scales leave out rows whose median lies three factors of ten below the first
        quartile of all rows, if they are a quarter of the rows or fewer; ``note`` says how many.
    """
    scale = scale_of(values, kind)
    if scale.kind != "log":
        return scale
    logs = np.log10(values, where=values > 0, out=np.full(values.shape, np.nan))
    known = np.isfinite(logs).any(axis=0)
    medians = np.full(values.shape[1], np.nan)
    medians[known] = np.nanmedian(np.where(np.isfinite(logs), logs, np.nan)[:, known], axis=0)
    is_low = medians < np.nanquantile(medians, 0.25) - LOW_DECADES
    if not is_low.any() or is_low.sum() > 0.25 * known.sum():
        return scale
    bulk = scale_of(values[:, ~is_low], kind)
    words = f"{is_low.sum()} row{'s' if is_low.sum() > 1 else ''} below the colours"
    extend = "both" if bulk.extend in ("max", "both") else "min"
    return replace(bulk, extend=extend, note=words)


class RoomyLogLocator(LogLocator):
    """Ticks at 1, 2 and 5 of each of at most two factors of ten where there is room, else at 1.

    Where that is only one, at other digits too: one label makes no scale.
    """

    def __init__(self) -> None:
        super().__init__(base=10, subs=(1.0, 2.0, 5.0), numticks=7)

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Choose the densest ticks that the axis has room for."""
        low, high = sorted((vmin, vmax))
        if low <= 0 or self.axis is None:
            return list(super().tick_values(vmin, vmax))
        room = min(max(self.axis.get_tick_space(), 3), 7)
        powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        for digits in DIGITS if high < 160 * low else DIGITS[-1:]:
            ticks = np.ravel(10.0 ** powers[:, None] * np.array(digits))
            shown = ticks[(ticks >= low * (1 - 1e-9)) & (ticks <= high * (1 + 1e-9))]
            if 2 <= len(shown) <= room:
                return [float(tick) for tick in shown]
        every = max(int(np.ceil(len(shown) / room)), 1)
        return [float(tick) for tick in 10.0 ** powers[powers % every == 0]]


def effect_scale(values: np.ndarray, *, is_ratio: bool) -> Scale:
    """Choose a scale about zero for differences, or for natural logarithms of ratios.

    Ratios within 1 % of 1 are drawn pale, so that rounding is not visible.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0 or not finite.any():
        return Scale("ratio" if is_ratio else "diverging", -0.01, 0.01)
    if not is_ratio:
        return _signed(finite)
    sizes = np.abs(finite)
    high = max(float(np.quantile(sizes, 1 - TAIL)), float(np.log(1.01)))
    extend = _extend(np.array([finite.min(), finite.max()]), -high, high)
    return Scale("ratio", -high, high, extend=extend)


def _signed(finite: np.ndarray) -> Scale:
    """Symmetric about zero; logarithmic in both directions over more than three factors of ten."""
    sizes = np.abs(finite)
    if not sizes.any():
        return Scale("diverging", -1.0, 1.0)
    bulk, top = float(np.quantile(sizes, 1 - TAIL)), float(sizes.max())
    high = bulk if 0 < 1.5 * bulk < top else top
    middle = float(np.median(sizes[sizes > 0]))
    extend = _extend(np.array([finite.min(), finite.max()]), -high, high)
    if high / middle > 30:
        return Scale("symlog", -high, high, threshold=middle / 10, extend=extend)
    return Scale("diverging", -high, high, extend=extend)


def _extend(ends: np.ndarray, low: float, high: float) -> str:
    below, above = bool(ends[0] < low), bool(ends[1] > high)
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[(below, above)]


def _padded(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def format_values(axis: Axis, scale: Scale) -> None:
    """Set ticks on the axis (or colour bar axis) of a quantity."""
    if scale.kind == "symlog":
        axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=scale.threshold))
        axis.set_major_formatter(FuncFormatter(power_of_ten))
        axis.set_minor_locator(NullLocator())
    elif scale.kind == "ratio":
        axis.set_major_locator(FixedLocator(_ratio_ticks(scale.high)))
        axis.set_major_formatter(FuncFormatter(factor))
    elif scale.kind != "log":
        axis.set_major_locator(MaxNLocator(5))
    else:
        decades = np.log10(scale.high / scale.low)
        if decades < 0.35:
            axis.set_major_locator(MaxNLocator(4))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
            axis.set_minor_locator(NullLocator())
            return
        axis.set_major_locator(RoomyLogLocator())
        is_plain = scale.low >= 0.99e-3 and scale.high < 1e4
        axis.set_major_formatter(FuncFormatter(plain_number if is_plain else power_of_ten))
        axis.set_minor_locator(LogLocator(base=10, subs=tuple(range(2, 10)), numticks=12))
        axis.set_minor_formatter(NullFormatter())


def _ratio_ticks(high: float) -> list[float]:
    """Place ticks at round factors on both sides of 1, five or seven in all."""
    least = next((steps for steps in LADDERS if np.log(steps[1]) <= high * 1.001), LADDERS[-1])
    sizes = [float(np.log(step)) for step in least if np.log(step) <= high * 1.001]
    return [-size for size in sizes[::-1]] + [0.0] + sizes


def factor(value: float, _: int | None = None) -> str:
    r"""Write the natural logarithm of a ratio as a factor.

    >>> factor(np.log(2)), factor(-np.log(10)), factor(0.0), factor(np.log(1e6))
    ('×2', '÷10', '1', '×$10^{6}$')
    """
    if value == 0:
        return "1"
    size = float(np.exp(abs(value)))
    number = f"{size:.4g}" if size < 1e4 else power_of_ten(size)
    return f"{'×' if value > 0 else '÷'}{number}"


def plain_number(value: float, _: int | None = None) -> str:
    """Write 0.002 for 0.002.

    >>> plain_number(0.002)
    '0.002'
    """
    return f"{value:g}"


def power_of_ten(value: float, _: int | None = None) -> str:
    r"""Write 2e-7 as a product with a power of ten, for matplotlib's mathtext.

    >>> power_of_ten(-2e-7)
    '−$2\\times10^{-7}$'
    """
    if value == 0:
        return "0"
    exponent = int(np.floor(np.log10(abs(value)) + 1e-9))
    mantissa = f"{abs(value) / 10.0**exponent:.2g}"
    sign = "−" if value < 0 else ""
    factor = "" if mantissa == "1" else rf"{mantissa}\times"
    return f"{sign}${factor}10^{{{exponent}}}$"


def signed(value: float, form: str = "g") -> str:
    """Write a number in words with a minus sign, as axes do.

    >>> signed(-0.1), signed(0.19, "+.2f")
    ('−0.1', '+0.19')
    """
    return format(value, form).replace("-", "−")
