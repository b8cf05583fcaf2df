import numpy as np
from matplotlib.figure import Figure

from gradscope.derived.select import select
from gradscope.plots.draw.trajectories import MAX_POINTS, draw_trajectories
from tests.helpers import synthetic_recording


def test_one_line_a_layer_with_its_numbers_at_its_steps():
    data = select(synthetic_recording(40, 5), "grad_norm")
    lines = draw_trajectories(data)
    assert len(lines) == 5
    np.testing.assert_allclose(lines[2].get_xydata()[:, 0], data["step"].values)
    np.testing.assert_allclose(lines[2].get_ydata(), data.values[:, 2], rtol=1e-6)


def test_missing_steps_are_gaps():
    data = select(synthetic_recording(40, 5), "grad_norm").copy(deep=True)
    data[10:20] = np.nan
    assert np.isnan(draw_trajectories(data)[0].get_ydata()).sum() == 10


def test_key_names_the_layers_from_input_to_output():
    data = select(synthetic_recording(40, 5), "grad_norm")
    ax, cax = Figure(layout="constrained").subplots(1, 2)
    draw_trajectories(data, ax=ax, cax=cax)
    texts = [label.get_text() for label in cax.get_yticklabels()]
    assert texts == ["features.0", "features.3", "features.6", "features.9", "classifier"]


def test_long_runs_are_thinned_and_say_so():
    data = select(synthetic_recording(3000, 3), "grad_norm")
    line = draw_trajectories(data)[0]
    assert len(line.get_xdata()) <= MAX_POINTS
    assert line.axes.get_xlabel() == "step (a point is a mean of ≤ 10)"
