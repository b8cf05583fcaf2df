"""Importing this gives every recording an accessor: ``tree.gradscope``.

>>> import gradscope.integrations.xarray
>>> import xarray
>>> xarray.DataTree().gradscope.quantities()
[]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from gradscope.derived.aggregate import aggregate
from gradscope.derived.compare.conditions import conditions_by_setting
from gradscope.derived.compare.maps import compare_runs
from gradscope.derived.compare.result import Comparison
from gradscope.derived.other_alphas import shadow_alpha
from gradscope.derived.summary import summarise
from gradscope.errors import UsageError, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradscope.view.server import LivePage


@xr.register_datatree_accessor("gradscope")
class RecordingAccessor:
    """What gradscope can derive from a recording, and draw of it.

    Parameters
    ----------
    tree : DataTree
        From `gradscope.open_recording`, or many from `gradscope.open_runs`.
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree

    def quantities(self) -> list[str]:
        """Return the names of all that was recorded or follows from it."""
        return sorted({str(name) for node in self._tree.subtree for name in node.data_vars})

    def __getitem__(self, quantity: str) -> xr.DataArray:
        """Return a recorded or derived quantity by its name alone.

        Raises
        ------
        UsageError
            If the recording has no such quantity.
        """
        found = [
            node.dataset[quantity] for node in self._tree.subtree if quantity in node.data_vars
        ]
        if found:  # flight recordings repeat names of the groups above them
            return found[0]
        raise UsageError(unknown("quantity", quantity, self.quantities()))

    def aggregate(self, by: str = "layer") -> xr.DataTree:
        """Unite parameters exactly; see `gradscope.derived.aggregate.aggregate`."""
        return aggregate(self._tree, by)

    def shadow_alpha(self, alphas: Sequence[float]) -> xr.Dataset:
        """Tell what other exponents would do; see `gradscope.derived.shadow_alpha.shadow_alpha`."""
        return shadow_alpha(self._tree, alphas)

    def summary(self) -> dict[str, Any]:
        """Return the recording in a few numbers; see `gradscope.derived.summary.summarise`."""
        return summarise(self._tree)

    def compare(
        self,
        over: str | Sequence[str] = (),
        *,
        quantity: str = "grad_norm",
        by: str = "weight",
        layers: str | None = None,
        axis: str = "step",
        confidence: float = 0.95,
    ) -> Comparison:
        """Compare groups of runs, each with that of the first run.

        Parameters
        ----------
        over : str or sequence of str, optional
            Settings to group by, such as ``"alpha"``; runs of one condition are
            replicates, whatever else differs. By default runs that differ in their seed alone are
            one condition.
        quantity, by, layers
            What to compare, of which rows; as in `gradscope.derived.select.select`.
        axis, confidence
            As in `gradscope.derived.compare.maps.compare_runs`.

        Returns
        -------
        Comparison
            Prints as a table; `plot_comparison` draws it.

        Raises
        ------
        UsageError
            If the tree holds one condition only, or the runs cannot be compared so.
        """
        from gradscope.derived.select import select

        names = (over,) if isinstance(over, str) else tuple(over)
        conditions = conditions_by_setting(self._tree, names)
        data = select(self._tree, quantity, by=by, layers=layers).load()
        return compare_runs(self._tree, data, conditions, axis=axis, confidence=confidence)

    def plot_comparison(self, comparison: Comparison, **options: Any) -> Figure:
        """Draw what `compare` returned; ``options`` (width, style) as in `View`.

        Raises
        ------
        UsageError
            If there are more conditions than fit in a figure.
        """
        from gradscope.plots.draw.comparison import draw_comparison
        from gradscope.plots.figure import View

        view = View(**{"quantity": comparison.quantity, "width": "page", **options})
        return draw_comparison(comparison, self._tree, view).figure

    def plot(self, kind: str = "heatmap", quantity: str = "grad_norm", **options: Any) -> Figure:
        """Draw a figure; ``options`` as in `gradscope.plots.layouts.view.View`.

        Raises
        ------
        UsageError
            If the kind is unknown, or the recording has nothing of what is asked for.
        """
        from gradscope.plots.figure import View, plot_recording

        return plot_recording(self._tree, View(quantity=quantity, kind=kind, **options))

    def explore(self, *, height: int = 900) -> LivePage:
        """Show the live page of these recordings in a notebook.

        Needs the extra ``view``. The page follows recordings that are still being written; it is
        served by this process on the loopback, and `close` of what is returned ends it.

        Raises
        ------
        UsageError
            If the tree does not come from files.
        """
        from gradscope.view.server import serve_in_background

        source = self._tree.encoding.get("source")
        files = [source] if source else self._tree.encoding.get("sources", [])
        if not files:
            raise UsageError("only recordings on disk can be explored; open them with gradscope")
        return serve_in_background([Path(file) for file in files], height=height)
