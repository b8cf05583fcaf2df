import numpy as np
import pytest

from gradscope.derived.select import select
from gradscope.plots.draw.profile import draw_profile, profile_steps
from tests.helpers import synthetic_recording


@pytest.fixture
def data():
    return select(synthetic_recording(100, 6), "grad_norm").copy(deep=True)


def test_lines_are_the_rows_of_their_steps(data):
    lines = draw_profile(data, at=[1, 50])
    for line, step in zip(lines, (1, 50), strict=True):
        np.testing.assert_allclose(line.get_ydata(), data.sel(step=step).values, rtol=1e-6)
        assert line.get_xdata().tolist() == [0, 1, 2, 3, 4, 5]
    assert [line.get_label() for line in lines] == ["1", "50"]
    assert lines[0].axes.get_yscale() == "log"


def test_default_steps_are_recorded_ones_from_first_to_last():
    steps = np.arange(10, 2001, 10)
    chosen = profile_steps(steps)
    assert chosen[0] == 10 and chosen[-1] == 2000 and set(chosen) <= set(steps) and len(chosen) == 5
    assert profile_steps(np.array([4])).tolist() == [4]


def test_zero_rows_are_mentioned(data):
    data[:, 0] = 0
    ax = draw_profile(data)[0].axes
    assert [text.get_text() for text in ax.texts] == ["not shown: 1 row, zero or missing"]


def test_rows_that_share_a_depth_stand_in_order():
    data = select(synthetic_recording(10, 3), "grad_norm", by="param")
    line = draw_profile(data)[0]
    assert line.get_xdata().tolist() == list(range(data.sizes["param"]))
    assert line.axes.get_xlabel() == "row in network order"


def test_one_row_stands_at_a_whole_number(data):
    ax = draw_profile(data.isel(param=slice(1)))[0].axes
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [data["depth"].values[0]]
