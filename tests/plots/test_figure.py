import re
import time
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

from gradscope.errors import UsageError
from gradscope.plots.figure import View, draw_to_file, plot_recording
from tests.helpers import auto_steps, synthetic_recording


@pytest.fixture(scope="module")
def tree():
    return synthetic_recording(60, 11)


def texts_of(figure):
    """Every text that is drawn, with its box in pixels."""
    figure.draw_without_rendering()
    for ax in figure.axes:
        shown = [ax.xaxis.label, ax.yaxis.label, ax._left_title]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            within = [tick for tick in ticks if low <= tick.get_loc() <= high]
            shown += [label for tick in within for label in (tick.label1, tick.label2)]
        for text in shown:
            if text.get_text() and text.get_visible() and ax.axison:
                yield text, text.get_window_extent()


def test_loss_stands_above_on_the_same_step_axis(tree):
    figure = plot_recording(tree)
    top, _, ax, _ = figure.axes
    figure.draw_without_rendering()
    assert top.get_xlim() == ax.get_xlim()
    above, below = top.get_window_extent(), ax.get_window_extent()
    assert above.y0 > below.y1
    assert (above.x0, above.x1) == pytest.approx((below.x0, below.x1), abs=0.5)
    np.testing.assert_allclose(top.lines[0].get_ydata(), tree["training/loss"].values)


@pytest.mark.parametrize("n_layers", [1, 5, 11, 150])
@pytest.mark.parametrize("kind", ["heatmap", "profile", "trajectories"])
def test_nothing_is_cut_off_at_column_width(n_layers, kind):
    figure = plot_recording(synthetic_recording(50, n_layers), View(kind=kind))
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in texts_of(figure):
        assert box.x0 >= -1 and box.x1 <= width + 1, text
        assert box.y0 >= -1 and box.y1 <= height + 1, text
        assert text.get_fontsize() >= 5
    assert width / figure.dpi * 25.4 == pytest.approx(89)


def test_long_names_leave_the_map_its_room(tree):
    """Of names of 80 letters, a third of the width at most."""
    data = tree["gradients"].to_dataset()
    long = [f"{'a_backbone_with_many_words_' * 3}{name}" for name in data["param"].values]
    groups = {f"/{name}": node.to_dataset() for name, node in tree.children.items()}
    groups["/gradients"] = data.assign_coords(param=long)
    figure = plot_recording(xr.DataTree.from_dict(groups), View())
    ax = next(ax for ax in figure.axes if ax.get_xlabel() == "step")
    labels = [text for text in ax.get_yticklabels() if text.get_text()]
    assert len({text.get_text() for text in labels}) == len(labels) > 1
    widest = max(text.get_window_extent().width for text in labels)
    assert widest < figure.bbox.width / 3 and ax.bbox.width > 0.4 * figure.bbox.width


def test_long_quantity_names_fit(tree):
    figure = plot_recording(tree, View(quantity="update_grad_cosine"))
    for text, box in texts_of(figure):
        assert box.y0 >= -1 and box.y1 <= figure.bbox.height + 1, text


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_drawn_twice_the_bytes_are_equal(tree, tmp_path, suffix):
    paths = [draw_to_file(tree, View(), tmp_path / f"{name}.{suffix}") for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_pdf_is_vector_with_embedded_fonts_and_one_raster_mesh(tree, tmp_path):
    content = draw_to_file(tree, View(), tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in content and b"/Type3" not in content
    assert b"CreationDate" not in content


def test_alternative_text_stands_in_the_file(tree, tmp_path):
    content = draw_to_file(tree, View(), tmp_path / "figure.svg").read_text()
    assert "Heatmap of gradient norm over 60 recorded steps (1 to 60) and 11 rows" in content


def test_long_and_deep_recordings_draw_fast_and_small(tmp_path):
    tree = synthetic_recording(50_000, 60, steps=auto_steps(50_000))
    start = time.process_time()
    path = draw_to_file(tree, View(), tmp_path / "figure.pdf")
    assert time.process_time() - start < 6  # about 1 s on a quiet machine
    assert path.stat().st_size < 1_000_000


def test_first_nonfinite_gradient_is_marked(tree):
    marked = tree.copy()
    marked.attrs["first_nonfinite_step"] = 33
    top = plot_recording(marked).axes[0]
    assert any(line.get_xdata() == [33, 33] for line in top.lines[1:])


def test_a_recording_without_loss_is_drawn_without_it(tree):
    bare = tree.copy()
    bare["training"] = bare["training"].to_dataset().drop_vars("loss")
    assert not plot_recording(bare).axes[0].axison


def test_title_says_which_run(tree):
    title = plot_recording(tree).axes[0].get_title(loc="left")
    assert re.fullmatch(r"plain · made-up · SMES · α = −0.1 · seed 0", title)


def test_title_of_another_optimizer_is_without_alpha(tree):
    other = tree.copy()
    other.attrs["optimizer_name"] = "Adam"
    title = plot_recording(other).axes[0].get_title(loc="left")
    assert title == "plain · made-up · Adam · seed 0"


@pytest.mark.parametrize("factor", [60, 1e3, 1e6, 1e13, 1e30])
@pytest.mark.parametrize("width", ["column", "page"])
def test_labels_of_the_loss_and_of_the_colours_never_overlap(tree, factor, width):
    wide = tree.copy(deep=True)
    n_steps = wide["training"].sizes["step"]
    wide["training"]["loss"].values[:] = np.geomspace(2, 2 * factor, n_steps)
    norms = wide["gradients"]["grad_norm"].values
    norms[:] = np.geomspace(0.6, 0.01 * factor, norms.size).reshape(norms.shape)
    figure = plot_recording(wide, View(width=width))
    figure.draw_without_rendering()
    for ax in (figure.axes[0], figure.axes[3]):
        low, high = ax.get_ylim()
        boxes = [
            label.get_window_extent()
            for tick in ax.yaxis.get_major_ticks()
            if low <= tick.get_loc() <= high
            for label in (tick.label1, tick.label2)
            if label.get_visible()
        ]
        boxes = sorted((box for box in boxes if box.width > 0), key=lambda box: box.y0)
        assert len(boxes) >= 2
        assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_long_titles_break_into_lines(tree):
    named = tree.copy()
    named.attrs["model_name"] = "a model with a name that is much longer than a column is wide"
    figure = plot_recording(named)
    for text, box in texts_of(figure):
        assert box.x1 <= figure.bbox.width + 1 and box.y1 <= figure.bbox.height + 1, text


def test_mistakes_are_explained(tree):
    with pytest.raises(UsageError, match="unknown kind 'heatmp'; did you mean 'heatmap'"):
        plot_recording(tree, View(kind="heatmp"))
    empty = tree.copy(deep=True)
    empty["gradients"]["grad_norm"].values[:] = np.nan
    empty["gradients"]["grad_nonfinite"].values[:] = 0
    with pytest.raises(UsageError, match=r"`grad_norm` is missing at every step.* asked for$"):
        plot_recording(empty)
    is_bias = np.array(["bias" in kind for kind in empty["gradients"]["kind"].values])
    empty["gradients"]["grad_norm"].values[:, is_bias] = 1.0
    with pytest.raises(UsageError, match="no weights of layers have it, see --by param"):
        plot_recording(empty)
