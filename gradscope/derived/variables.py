"""Derived quantities, one pure function each.

Each function has the name of a variable in `gradscope.schema.DERIVED`. Its arguments are named
after its inputs: stored variables, coordinates of ``param``, or hyper-parameters of the parameter's
group. Shapes broadcast: (step, param) with (param,).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np

Array = np.ndarray


def grad_rms(grad_norm: Array, numel: Array) -> Array:
    """Root mean square gradient, grad_norm / sqrt(numel)."""
    return np.asarray(grad_norm / np.sqrt(numel))


def exp_avg_sq_hat_mean(exp_avg_sq_mean: Array, beta2: Array, state_step: Array) -> Array:
    """Bias-corrected mean second moment, exp_avg_sq_mean / (1 - beta2^state_step)."""
    return np.asarray(exp_avg_sq_mean / -np.expm1(state_step * np.log(beta2)))


def update_rms(update_norm: Array, numel: Array) -> Array:
    """Root mean square update, update_norm / sqrt(numel)."""
    return np.asarray(update_norm / np.sqrt(numel))


def update_ratio(update_norm: Array, param_norm: Array) -> Array:
    """Relative update, update_norm / param_norm."""
    return np.asarray(update_norm / param_norm)


def grad_param_product(grad_norm: Array, param_norm: Array) -> Array:
    """Gradient norm times parameter norm; invariant to rescaling of a layer."""
    return np.asarray(grad_norm * param_norm)


def effective_lr(update_norm: Array, grad_norm: Array) -> Array:
    """Effective learning rate, update_norm / grad_norm."""
    return np.asarray(update_norm / grad_norm)


FORMULAS: dict[str, Callable[..., Array]] = {
    function.__name__: function
    for function in (
        grad_rms,
        exp_avg_sq_hat_mean,
        update_rms,
        update_ratio,
        grad_param_product,
        effective_lr,
    )
}


def inputs_of(name: str) -> tuple[str, ...]:
    """Return the names of the inputs of a derived variable.

    >>> inputs_of("update_ratio")
    ('update_norm', 'param_norm')
    """
    return tuple(inspect.signature(FORMULAS[name]).parameters)


def compute(name: str, *inputs: Array) -> Array:
    """Compute a derived variable; undefined quotients are NaN or infinite, without a warning."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return FORMULAS[name](*inputs)
