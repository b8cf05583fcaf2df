"""Colours and ticks of the report, the same as in gradscope's figures."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.ticker import LogLocator, MaxNLocator, SymmetricalLogLocator

from gradscope.plots.axes.scales import Scale, plain_number

N_COLOURS = 33
MAX_TICKS = 9


def describe_scale(scale: Scale) -> dict[str, Any]:
    """Return a scale as the page needs it: limits, colours, ticks."""
    ticks = _ticks(scale)
    colours = mpl.colormaps[scale.cmap](np.linspace(0, 1, N_COLOURS))
    return {
        "kind": scale.kind,
        "low": scale.low,
        "high": scale.high,
        "threshold": scale.threshold,
        "extend": scale.extend,
        "colours": [to_hex(colour) for colour in colours],
        "ticks": [list(tick) for tick in zip(ticks, _texts(ticks), strict=True)],
    }


def _ticks(scale: Scale) -> list[float]:
    """Choose readable values between the limits."""
    locator: Any = MaxNLocator(5)
    if scale.kind == "symlog":
        locator = SymmetricalLogLocator(base=10, linthresh=scale.threshold)
    elif scale.kind == "log":
        decades = np.log10(scale.high / scale.low)
        if decades >= 0.35:
            subs = (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
            locator = LogLocator(base=10, subs=subs, numticks=7)
    found = np.asarray(locator.tick_values(scale.low, scale.high), dtype=float)
    slack = 1e-9 * (scale.low if scale.kind == "log" else scale.high - scale.low)
    found = found[(found >= scale.low - slack) & (found <= scale.high + slack)]
    zero = int(np.argmin(np.abs(found))) if found.size else 0
    kept = found[zero % 2 :: 2] if found.size > MAX_TICKS else found
    return [float(tick) for tick in kept]


def _texts(ticks: list[float]) -> list[str]:
    """Write ticks: plain numbers where all are easy to read, else with powers of ten."""
    sizes = [abs(tick) for tick in ticks if tick]
    is_plain = min(sizes, default=1) >= 0.99e-3 and max(sizes, default=1) < 1e4
    texts = [plain_number(tick) if is_plain or not tick else _power(tick) for tick in ticks]
    return [text.replace("-", "−") for text in texts]


def _power(value: float) -> str:
    """Write 2×10⁻⁷, the exponent raised as the page's plotting library wants it."""
    mantissa, exponent = f"{value:.2e}".split("e")
    digits = f"{float(mantissa):g}"
    factor = {"1": "", "-1": "-"}.get(digits, f"{digits}×")
    return f"{factor}10<sup>{int(exponent)}</sup>"
