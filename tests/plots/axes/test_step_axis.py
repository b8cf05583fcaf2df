import numpy as np
import pytest
from matplotlib.figure import Figure

from gradscope.plots.axes.step_axis import format_steps, is_log_spaced, step_columns
from tests.helpers import auto_steps


def columns_of(steps, **options):
    steps = np.asarray(steps)
    return step_columns(np.arange(len(steps), dtype=float)[:, None], steps, **options)


def test_columns_reach_half_way_to_their_neighbours():
    assert columns_of([1, 2, 3]).edges.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert columns_of([10, 20, 40]).edges.tolist() == [5, 15, 30, 50]
    assert columns_of([7]).edges.tolist() == [6.5, 7.5]
    assert columns_of([0, 1]).edges.tolist() == [-0.5, 0.5, 1.5]


def test_every_column_holds_its_own_step_and_no_other():
    steps = auto_steps(50_000)
    columns = columns_of(steps, max_columns=10**6)
    inside = (columns.edges[:-1] < steps) & (steps < columns.edges[1:])
    assert inside.all() and columns.merged == 1


def test_a_hole_in_the_record_is_missing_and_not_stretched():
    columns = columns_of([1, 2, 3, 103, 104, 105])
    assert columns.edges.tolist() == [0.5, 1.5, 2.5, 3.5, 102.5, 103.5, 104.5, 105.5]
    assert np.isnan(columns.values[0]).tolist() == [False] * 3 + [True] + [False] * 3


def test_log_spaced_steps_have_no_holes():
    columns = columns_of(auto_steps(50_000), max_columns=10**6)
    assert not np.isnan(columns.values).any()


@pytest.mark.parametrize("is_log_axis", [False, True])
def test_merged_columns_are_means_over_their_own_steps(is_log_axis):
    steps = np.arange(1, 5001)
    values = steps[:, None].astype(float)
    columns = step_columns(values, steps, is_log_axis=is_log_axis, max_columns=50)
    assert columns.values.shape[1] <= 50
    for left, right, mean in zip(columns.edges, columns.edges[1:], columns.values[0], strict=False):
        within = steps[(steps > left) & (steps < right)]
        assert mean == pytest.approx(within.mean())


def test_geometric_means_skip_zeros_and_missing_values():
    values = np.array([1.0, 100.0, 0.0, np.nan, 0.0, np.nan, np.nan, np.nan])[:, None]
    columns = step_columns(values, np.arange(1, 9), is_log_value=True, max_columns=2)
    assert columns.values[0, 0] == pytest.approx(10)
    assert columns.values[0, 1] == 0
    nothing = step_columns(np.full((4, 1), np.nan), np.arange(1, 5), max_columns=2)
    assert np.isnan(nothing.values).all()


def test_auto_cadence_is_seen_as_log_spaced_and_a_fixed_one_is_not():
    assert is_log_spaced(auto_steps(50_000))
    assert not is_log_spaced(np.arange(1, 50_001, 10))
    assert not is_log_spaced(auto_steps(1000))
    assert not is_log_spaced(np.array([5]))


def test_step_ticks_are_whole_numbers():
    for last in (1, 3, 50, 50_000, 3_000_000):
        ax = Figure().add_subplot()
        format_steps(ax, is_log=False)
        ax.set_xlim(0.5, last + 0.5)
        ax.get_figure().draw_without_rendering()
        texts = [text.get_text() for text in ax.get_xticklabels()]
        assert len(set(texts)) == len(texts)
        assert not any("." in text for text in texts if "M" not in text)
