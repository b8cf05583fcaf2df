"""Loss and accuracy over steps."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from gradscope.errors import UsageError
from gradscope.plots.axes.style import new_figure
from gradscope.plots.layouts.bands import draw_metric, has_metric
from gradscope.plots.layouts.kind import Kind
from gradscope.plots.layouts.panels import one_legend
from gradscope.plots.layouts.run_names import conditions_by_run
from gradscope.plots.layouts.view import Picture, View, as_table, run_title


def curves(tree: xr.DataTree, view: View) -> Picture:
    """Loss and accuracy over steps, a colour a condition, with 95 % bands over seeds."""
    is_many = "run" in tree.dims
    names = conditions_by_run(tree) if is_many else None
    tables = []
    chosen = [name for name in ("train_loss", "val_loss", "val_accuracy") if has_metric(tree, name)]
    if not chosen:
        raise UsageError(
            "this recording has no evaluation to draw: no train_, val_ or test_ metric. "
            "The training loss stands above the map of `--kind heatmap`"
        )
    figure = new_figure(view.width_mm, 0.42 * view.width_mm)
    for number, name in enumerate(chosen):
        ax = figure.add_subplot(1, len(chosen), number + 1)
        table = as_table(tree["evaluation"].dataset[name].load()).dropna()
        table["run is"] = table["run"].map(names) if names else run_title(tree)
        draw_metric(table, name, ax=ax)
        tables.append(table.rename(columns={name: "value"}).assign(metric=name))
    one_legend(figure.axes)
    data = pd.concat(tables, ignore_index=True)
    return Picture(figure, data, f"{', '.join(chosen)} over steps. {run_title(tree)}")


KIND = Kind(name="curves", summary="loss and accuracy over steps", of_one=curves, of_many=curves)
