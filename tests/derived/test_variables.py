import numpy as np
import pytest

from gradscope import schema
from gradscope.derived.variables import FORMULAS, compute, inputs_of


def test_every_declared_variable_has_its_formula_and_no_other():
    declared = {name for group in schema.DERIVED.values() for name in group}
    assert declared == set(FORMULAS)


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_inputs_are_declared(name):
    for needed in inputs_of(name):
        assert needed in schema.PARAM_COORDINATES or schema.find(needed)


def test_bias_correction_is_that_of_adam_even_late():
    v, steps = np.full(3, 2e-6), np.array([1.0, 10.0, 1e6])
    got = compute("exp_avg_sq_hat_mean", v, np.full(3, 0.999), steps)
    np.testing.assert_allclose(got, v / (1 - 0.999**steps), rtol=1e-12)


def test_undefined_quotients_are_silent():
    assert np.isnan(compute("update_ratio", np.zeros(1), np.zeros(1)))[0]
    assert np.isinf(compute("effective_lr", np.ones(1), np.zeros(1)))[0]
