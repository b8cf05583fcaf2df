import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradscope.derived.cells import MISSING, NONFINITE, NUMBER, OTHER
from gradscope.report.encode import CODES, decode, encode, pack, to_json, unpack

NUMBERS = st.floats(-1e300, 1e300, allow_subnormal=False) | st.sampled_from(
    [np.nan, np.inf, -np.inf, 0.0]
)


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=NUMBERS,
    )
)
def test_numbers_come_back_within_the_stated_precision(values):
    grid = encode(values)
    found = decode(grid)
    is_number = np.isfinite(values) & (values != 0)
    # From 2e-308 to 2e308 a row spans 1,420 natural logarithms: 2.2 % between levels.
    assert grid.precision < 0.022
    error = np.abs(found[is_number] / values[is_number] - 1)
    assert (error <= grid.precision + 1e-12).all()
    expected = np.where(np.isinf(values), np.inf, values)
    np.testing.assert_array_equal(found[~is_number], expected[~is_number] + 0.0)


def test_gradients_over_nine_factors_of_ten_are_right_to_three_digits():
    values = np.random.default_rng(0).uniform(np.log(1e-9), 0, size=(5, 1000))
    grid = encode(np.exp(values))
    # ln(1e9) / 32,765 levels, half of it to either side.
    assert grid.precision == pytest.approx(np.log(1e9) / 32765 / 2, rel=0.01)
    np.testing.assert_allclose(decode(grid), np.exp(values), rtol=3.3e-4)


def test_each_row_has_its_own_range():
    grid = encode(np.array([[1.0, 2.0], [1e-20, 1e20]]))
    np.testing.assert_allclose(decode(grid)[0], [1, 2], rtol=1e-12)


def test_zero_is_not_missing_and_one_value_is_exact():
    grid = encode(np.array([[0.0, np.nan, -0.25], [7.0, 7.0, 7.0], [np.nan, np.nan, np.nan]]))
    assert grid.codes[0, :2].tolist() == [CODES["zero"], CODES["missing"]]
    np.testing.assert_allclose(decode(grid)[:2], [[0, np.nan, -0.25], [7, 7, 7]], rtol=1e-15)
    assert (grid.codes[2] == CODES["missing"]).all()


def test_states_say_what_a_cell_without_a_number_is():
    values = np.array([[1.0, np.nan, np.nan, np.nan]])
    states = np.array([[NUMBER, MISSING, OTHER, NONFINITE]])
    codes = encode(values, states).codes[0, 1:].tolist()
    assert codes == [CODES[name] for name in ("missing", "other", "nonfinite")]


def test_nothing_can_be_encoded():
    assert encode(np.zeros((3, 0))).precision == 0


def test_packing_comes_back_and_is_repeatable():
    text = 'läyer</script><b>"\u2028' * 50
    assert unpack(pack(text)) == text
    assert pack(text) == pack(text)
    assert set(pack(text)) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
    )


def test_what_is_no_json_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"loss": float("nan")})
