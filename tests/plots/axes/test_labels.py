from itertools import pairwise

import matplotlib
import pytest
import xarray as xr
from matplotlib.figure import Figure

from gradscope.plots.axes.labels import (
    BRACKET,
    fit_label,
    label_rows,
    quantity_label,
    row_labels,
)
from gradscope.plots.axes.names import clip_apart, short_names


def shown(ax):
    ax.get_figure().draw_without_rendering()
    texts = ax.get_yticklabels() + ax.get_yticklabels(minor=True)
    return [text for text in texts if text.get_text()]


def assert_apart(ax):
    boxes = sorted((text.get_window_extent() for text in shown(ax)), key=lambda box: box.y0)
    for below, above in pairwise(boxes):
        assert below.y1 <= above.y0 + 0.25 * below.height


def rows_axes(n_rows, *, height_mm=60):
    figure = Figure(figsize=(3.5, height_mm / 25.4))
    ax = figure.add_axes((0.3, 0.0, 0.6, 1.0))
    ax.set_ylim(-0.5, n_rows - 0.5)
    return ax


@pytest.mark.parametrize(
    ("units", "label"), [("1", "gradient norm"), ("", "gradient norm"), ("s", "gradient norm (s)")]
)
def test_unit_one_is_not_printed(units, label):
    attrs = {"long_name": "gradient norm", "units": units}
    assert quantity_label(xr.DataArray(0.0, attrs=attrs)) == label


def test_label_without_attributes_is_the_name():
    assert quantity_label(xr.DataArray(0.0, name="mine")) == "mine"


def test_short_names_keep_what_tells_them_apart():
    assert short_names(["features.0.weight", "classifier.weight"]) == ["features.0", "classifier"]
    assert short_names(["a.b.weight", "a.b.bias", "a.c.bias"]) == ["b.weight", "b.bias", "c.bias"]
    assert short_names(["features.0.weight", "features.3.weight"]) == ["features.0", "features.3"]
    assert short_names(["one.weight"]) == ["one"]
    assert short_names(["", ""]) == ["", ""]


def rows_of(names, types, dim="param"):
    coords = {dim: names, "layer_type": (dim, types)}
    return xr.DataArray([[0.0] * len(names)], dims=("step", dim), coords=coords)


def test_an_index_is_named_with_the_type_of_its_layer():
    data = rows_of(["0.weight", "2.weight", "head.weight"], ["Conv2d", "Linear", "Linear"])
    assert row_labels(data) == ["0 (Conv2d)", "2 (Linear)", "head"]
    nested = rows_of(
        ["0.0", "0.2", "1"], ["Linear", "NonDynamicallyQuantizableLinear", ""], "layer"
    )
    assert row_labels(nested)[0] == "0.0 (Linear)" and row_labels(nested)[2] == "1"
    assert len(row_labels(nested)[1]) <= 26
    assert row_labels(nested.drop_vars("layer_type")) == ["0.0", "0.2", "1"]


def test_a_relative_depth_is_no_index():
    assert row_labels(rows_of([0.0, 1.0], ["Linear", "Linear"], "relative_depth")) == [
        "0.00",
        "1.00",
    ]


def test_long_names_are_cut_where_they_stay_different():
    first, second = (f"encoder_with_a_long_name_{i}.projection_of_the_values" for i in (1, 2))
    assert short_names([first, second]) == ["…me_1.pr…", "…me_2.pr…"]
    cut = short_names([first, "head"])
    assert len(cut[0]) <= 26 and cut[0].startswith("encoder") and cut[0].endswith("values")
    long = [f"{'the_backbone_of_my_network_' * 3}block_{i}_projection.bias" for i in range(12)]
    assert short_names(long)[7] == "…k_block_7_projection.bias"
    leaves = ("in_proj_weight", "out_proj.weight")
    parts = [f"blocks.{i}.attn.{leaf}" for i in range(9) for leaf in leaves]
    for n in (12, 18, 26):
        assert len(set(clip_apart(parts, n))) == 18 and max(map(len, clip_apart(parts, n))) <= 26


def test_names_of_several_long_parts_lose_the_end_of_each():
    parts = ("self_attention.query_projection", "self_attention.key_projection", "mlp.expansion")
    blocks = [f"transformer_encoder_blocks.{i}.{part}" for i in range(3) for part in parts]
    names = ["token_embedding", *blocks, "language_modelling_head"]
    for n in (12, 18, 26):
        short = clip_apart(names, n)
        assert len(set(short)) == len(names) and max(map(len, short)) <= 26
        assert [name[1] for name in short[1:-1]] == list("000111222")
    assert clip_apart(names, 20)[1:3] == ["…0.self_at….query_p…", "…0.self_at….key_pro…"]


@pytest.mark.parametrize("n_rows", [1, 2, 5, 11, 20, 40, 150, 700])
def test_row_labels_never_overlap_and_name_both_ends(n_rows):
    names = [f"features.{3 * row}" for row in range(n_rows - 1)] + ["classifier"]
    ax = rows_axes(n_rows)
    label_rows(ax, names)
    assert_apart(ax)
    texts = [text.get_text() for text in shown(ax)]
    assert texts[0] == names[0] and texts[-1] == "classifier"
    assert all(text.get_fontsize() >= 5 for text in shown(ax))


def test_deep_networks_are_named_by_block():
    names = ["wte", *(f"h.{block}.{part}" for block in range(12) for part in "abcdef"), "lm_head"]
    ax = rows_axes(len(names))
    label_rows(ax, names)
    assert_apart(ax)
    texts = [text.get_text() for text in shown(ax)]
    assert [text for text in texts if text.startswith("h.")] == [
        f"h.{block}" for block in range(12)
    ]
    middle = next(t for t in ax.yaxis.get_minorticklocs() if abs(t - 3.5) < 0.01)
    assert middle == 3.5  # rows 1 to 6 are block 0
    brackets = [line.get_ydata() for line in ax.lines if line.get_gid() == BRACKET]
    assert len(brackets) == 12 + 2  # each block, the embedding and the head
    assert all(
        low - 0.5 < bottom < low < high < top < high + 0.5
        for (bottom, top), low, high in zip(
            brackets[1:13], range(1, 72, 6), range(6, 73, 6), strict=True
        )
    )


def test_long_axis_labels_break_into_lines():
    ax = rows_axes(3, height_mm=20)
    ax.set_ylabel("cosine between update and gradient; -1 is pure descent")
    fit_label(ax)
    figure = ax.get_figure()
    figure.draw_without_rendering()
    assert ax.yaxis.label.get_window_extent().height <= 1.05 * ax.get_window_extent().height
    assert "\n" in ax.get_ylabel()


def test_labels_leave_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    label_rows(rows_axes(5), list("abcde"))
    assert dict(matplotlib.rcParams) == before
