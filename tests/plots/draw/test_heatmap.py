import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from gradscope.derived.cells import NONFINITE
from gradscope.derived.select import select
from gradscope.plots.axes.scales import Scale
from gradscope.plots.axes.style import NONFINITE_COLOUR
from gradscope.plots.draw.heatmap import draw_heatmap
from gradscope.plots.figure import draw_picture
from gradscope.plots.layouts.view import View
from gradscope.store.read.recording import open_recording
from gradscope.store.write.writer import RecordingWriter
from tests.helpers import auto_steps, synthetic_recording


@pytest.fixture
def data():
    return select(synthetic_recording(30, 6), "grad_norm").copy(deep=True)


def test_cells_hold_the_numbers_with_the_input_at_the_bottom(data):
    heatmap = draw_heatmap(data)
    drawn = heatmap.mesh.get_array()
    np.testing.assert_allclose(drawn, data.values.T, rtol=1e-6)
    low, high = heatmap.ax.get_ylim()
    assert low < high
    texts = [label.get_text() for label in heatmap.ax.get_yticklabels()]
    assert texts[0] == "features.0" and texts[-1] == "classifier"


def test_colour_bar_names_quantity_and_unit(data):
    data.attrs["units"] = "nat"
    assert draw_heatmap(data).colorbar.ax.get_ylabel() == "gradient norm (nat)"


def test_missing_is_hatched_and_named_and_zero_is_black_and_named(data):
    data[3:6, 0] = np.nan
    data[:, 1] = 0
    heatmap = draw_heatmap(data)
    drawn = heatmap.mesh.get_array()
    assert drawn.mask[0, 3:6].all() and drawn.mask.sum() == 3
    assert heatmap.ax.patch.get_hatch()
    names = [text.get_text() for text in heatmap.ax.get_legend().get_texts()]
    assert names == ["missing", "zero"]
    zeros = heatmap.ax.collections[1].get_array()
    assert not zeros.mask[1].any() and zeros.mask[[0, 2, 3, 4, 5]].all()


def test_without_missing_there_is_no_legend(data):
    assert draw_heatmap(data).ax.get_legend() is None


def test_non_finite_has_a_colour_of_its_own_and_a_name(data):
    data[0, 0] = np.inf
    heatmap = draw_heatmap(data)
    assert np.argwhere(np.ma.getmaskarray(heatmap.mesh.get_array())).tolist() == [[0, 0]]
    marks = heatmap.ax.collections[1]
    assert np.argwhere(~np.ma.getmaskarray(marks.get_array())).tolist() == [[0, 0]]
    assert to_hex(marks.cmap(0.0)) == NONFINITE_COLOUR
    names = [text.get_text() for text in heatmap.ax.get_legend().get_texts()]
    assert names == ["non-finite"]


def test_a_non_finite_step_is_not_averaged_away():
    data = select(synthetic_recording(5000, 3), "grad_norm").copy(deep=True)
    data[1234, 1] = np.inf
    columns = draw_heatmap(data).columns
    assert columns.merged == 5 and (columns.states[1] == NONFINITE).sum() == 1


def test_one_scale_serves_several_maps(data):
    scale = Scale("log", 1e-3, 1.0)
    figure = Figure()
    maps = [draw_heatmap(data, ax=ax, scale=scale) for ax in figure.subplots(1, 2)]
    assert {(m.mesh.norm.vmin, m.mesh.norm.vmax) for m in maps} == {(1e-3, 1.0)}


def test_log_spaced_steps_get_a_log_axis_and_true_columns():
    steps = auto_steps(50_000)
    data = select(synthetic_recording(50_000, 4, steps=steps), "grad_norm")
    heatmap = draw_heatmap(data)
    assert heatmap.ax.get_xscale() == "log"
    assert heatmap.ax.get_xlim() == pytest.approx((0.5, heatmap.columns.edges[-1]))
    assert draw_heatmap(data, step_scale="linear").ax.get_xscale() == "linear"


def test_averaged_columns_are_said_on_the_axis():
    data = select(synthetic_recording(5000, 3), "grad_norm")
    heatmap = draw_heatmap(data)
    assert heatmap.columns.merged == 5
    assert heatmap.ax.get_xlabel() == "step (a column is a mean of ≤ 5)"


def test_signed_quantities_diverge_about_zero():
    data = select(synthetic_recording(30, 6), "update_grad_cosine")
    norm = draw_heatmap(data).mesh.norm
    assert norm.vmin == -norm.vmax


def test_mesh_is_raster_and_text_is_not(data):
    heatmap = draw_heatmap(data)
    assert heatmap.mesh.get_rasterized()
    assert not heatmap.ax.xaxis.label.get_rasterized()


@pytest.mark.parametrize(
    ("by", "kinds", "words"),
    [
        ("weight", ["other", "weight", "bias", "other"], "not shown: 2 parameters"),
        ("weight", ["other", "weight", "bias", "bias"], "not shown: 1 parameter of"),
        ("weight", ["bias", "weight", "bias", "bias"], None),
        ("param", ["other", "weight", "bias", "other"], None),
    ],
)
def test_parameters_that_have_no_row_are_counted_under_the_map(tmp_path, by, kinds, words):
    writer = RecordingWriter(tmp_path / "run.h5")
    writer.set_axis("param", {"param": list("abcd"), "kind": kinds, "numel": [4] * 4})
    writer.append("gradients", {"step": [1, 2], "grad_norm": np.ones((2, 4))})
    writer.close()
    tree = open_recording(tmp_path / "run.h5").load()
    picture = draw_picture(tree, View(by=by))
    labels = [ax.get_xlabel() for ax in picture.figure.axes]
    said = [label for label in labels if "not shown" in label]
    assert len(said) == (words is not None)
    assert all(label.startswith("step\n" + words) for label in said)
    assert ("Not shown" in picture.description) == (words is not None)
