"""Style and size of figures, and writing them to files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import style as mpl_style
from matplotlib.figure import Figure

from gradscope.errors import UsageError, unknown

WIDTHS_MM = {"column": 89.0, "page": 183.0}
"""Widths that journals print: one column, and the page."""

STYLES = {"paper": 1.0, "notebook": 1.4, "talk": 2.0}
"""Factor on every font size and line width, by style."""

MISSING_LOOK: dict[str, Any] = {"facecolor": "0.92", "hatch": "//////", "edgecolor": "0.72"}
NONFINITE_COLOUR = "#e6007e"
"""Magenta: in neither of the colour maps, and told from them by who sees no red or no green."""
OTHER_COLOUR = "white"

FORMATS = ("png", "pdf", "svg")
SHEET = Path(__file__).with_name("gradscope.mplstyle")
_SCALED = (
    "font.size",
    "axes.titlesize",
    "axes.labelsize",
    "axes.linewidth",
    "xtick.labelsize",
    "ytick.labelsize",
    "xtick.major.size",
    "ytick.major.size",
    "lines.linewidth",
    "lines.markersize",
    "legend.fontsize",
)


@contextmanager
def figure_style(style: str = "paper") -> Iterator[None]:
    """Context manager for the figure style; restores matplotlib's settings at the end.

    Parameters
    ----------
    style : {"paper", "notebook", "talk"}
        ``paper`` is set in 7 pt for print at its own size; the others are larger.

    Raises
    ------
    UsageError
        If there is no such style.
    """
    if style not in STYLES:
        raise UsageError(unknown("style", style, STYLES))
    # A user's own settings must not change what is drawn: begin with matplotlib's defaults.
    with mpl.rc_context(), mpl_style.context(["default", str(SHEET)]):
        settings: Any = mpl.rcParams
        scaled: Any = {key: float(settings[key]) * STYLES[style] for key in _SCALED}
        with mpl.rc_context(scaled):
            yield


def width_mm(width: str | float, *, style: str = "paper") -> float:
    """Return a width in mm: a name of `WIDTHS_MM` (larger for larger styles), or a number.

    Raises
    ------
    UsageError
        If the width is neither a known name nor a number between 40 and 1,000 mm.
    """
    if isinstance(width, str) and width in WIDTHS_MM:
        return WIDTHS_MM[width] * STYLES[style]
    try:
        millimetres = float(width)
    except ValueError:
        raise UsageError(unknown("width", str(width), WIDTHS_MM) + ", or a number of mm") from None
    if not 40 <= millimetres <= 1000:
        raise UsageError(f"the width must be between 40 and 1000 mm; got {width}")
    return millimetres


class InlineFigure(Figure):
    """A figure that a notebook shows when it is the value of a cell, whatever the backend."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with figure_style():  # colours such as C0 are looked up when drawn
            self.savefig(buffer, format="png", dpi=200)
        return buffer.getvalue()


def new_figure(width: float, height: float) -> InlineFigure:
    """Make an empty figure of a size in mm; it belongs to no window and needs no closing."""
    return InlineFigure(figsize=(width / 25.4, height / 25.4), layout="constrained")


def save_figure(figure: Figure, path: Path, *, description: str = "") -> Path:
    """Write a figure atomically and reproducibly, with the same bytes each time.

    Parameters
    ----------
    figure : Figure
        What to write; call inside `figure_style`.
    path : Path
        The suffix (png, pdf or svg) says the format.
    description : str
        Alternative text, stored in the metadata of the file.

    Raises
    ------
    UsageError
        If the suffix is none of the three.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UsageError(f"a figure is written as png, pdf or svg; got {path.name!r}")
    metadata: dict[str, dict[str, str | None]] = {
        "png": {"Software": None, "Description": description},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None, "Subject": description},
        "svg": {"Date": None, "Creator": None, "Description": description},
    }
    partial = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(partial, format=kind, metadata=metadata[kind])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
