"""The band about a mean over runs, against SciPy's t interval."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradscope.plots.axes.scales import Scale
from gradscope.plots.axes.style import new_figure
from gradscope.plots.layouts.bands import draw_bands, draw_metric


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("n_runs", [1, 2, 3, 8])
def test_a_band_is_the_t_interval_of_three_runs_and_more(n_runs, is_log):
    values = np.exp(np.random.default_rng(n_runs).normal(size=(n_runs, 4)))
    table = pd.DataFrame(
        {"step": step, "loss": one, "run is": "a"} for row in values for step, one in enumerate(row)
    )
    ax = new_figure(80, 60).subplots()
    scale = Scale("log", float(values.min()), float(values.max())) if is_log else None
    draw_bands(table, "step", "loss", ax=ax, label="loss", scale=scale)
    line = np.asarray(ax.lines[0].get_ydata())
    if n_runs < 3:
        assert not any(len(path.vertices) for band in ax.collections for path in band.get_paths())
        return
    sample = np.log(values) if is_log else values
    expected = np.array(stats.ttest_1samp(sample, 0).confidence_interval(0.95))
    (path,) = ax.collections[0].get_paths()
    edges = [path.vertices[path.vertices[:, 0] == step, 1] for step in range(4)]
    band = np.array([(edge.min(), edge.max()) for edge in edges]).T
    undo = np.exp if is_log else np.asarray
    np.testing.assert_allclose(band, undo(expected), rtol=1e-9)
    np.testing.assert_allclose(line, undo(sample.mean(axis=0)), rtol=1e-9)


def test_the_axis_of_an_accuracy_ends_where_accuracies_do():
    values = {"train_accuracy": (0.1, 0.5, 0.9), "val_accuracy": (0.05, 0.95, 1.0)}
    ax = new_figure(80, 60).subplots()
    for metric, own in values.items():  # in one panel, where the second reaches further
        rows = [{"step": s, metric: v, "run is": "a"} for v in own for s in range(3)]
        draw_metric(pd.DataFrame(rows), metric, ax=ax)
    assert ax.get_ylim() == (-0.02, 1.02)
    rows = [{"step": s, "val_loss": v, "run is": "a"} for v in (0.1, 0.5, 0.9) for s in range(3)]
    loss = new_figure(80, 60).subplots()
    draw_metric(pd.DataFrame(rows), "val_loss", ax=loss)
    assert loss.get_ylim()[1] > 1.02
