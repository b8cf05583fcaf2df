"""What a kind of picture is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr

from gradscope.plots.layouts.view import Picture, View

Layout = Callable[[xr.DataTree, View], Picture]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of picture; the module in `gradscope.plots.draw` that draws it holds it as ``KIND``.

    Parameters
    ----------
    name : str
        As in ``gradscope plot --kind``.
    summary : str
        One line for the help.
    of_one, of_many : callable of (DataTree, View) -> Picture, optional
        Draw one recording, or many that `gradscope.open_runs` opened.
    of_quantity : bool
        Whether it draws the quantity that the view names.
    groups : tuple of str, optional
        Groups of the recordings that it reads; by default all. Runs that differ in the others can
        then be drawn together.
    steps : {"common", "union"}
        Rows of several recordings, as `gradscope.open_runs` takes it.
    """

    name: str
    summary: str
    of_one: Layout | None = None
    of_many: Layout | None = None
    of_quantity: bool = False
    groups: tuple[str, ...] | None = None
    steps: str = "common"
