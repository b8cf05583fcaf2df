"""The CPU kernel of SMES: one pass over gradient, moments and parameter of all tensors at once."""

from __future__ import annotations

import numpy as np
from numba.np.numpy_support import carray

from gradscope.native.bits import bits_of, float32_array, float_of, pointer_to
from gradscope.native.compiler import Address, Array, Bool, Float32, Kernel, jit_in_order
from gradscope.native.jobs import BLOCK, blocks, job_of, next_part
from gradscope.native.power import (
    HIGHEST_MODERATE,
    LOWEST_MODERATE,
    power_of,
    power_of_moderate,
)

OPTIONS = np.dtype(
    [
        ("weight1", np.float32),  # 1 - beta1
        ("beta2", np.float32),
        ("weight2", np.float32),  # 1 - beta2
        ("sign", np.float32),  # -1 to ascend
        ("coupled_decay", np.float32),  # times the sign
        ("decay_mask", np.int32),  # -1 with coupled decay, else 0: 0 * theta may be NaN
        ("kept", np.float32),  # 1 - lr * weight_decay where decay is decoupled, else 1
        ("grad_scale", np.float32),  # GradScaler's; 1: none
        ("alpha_high", np.float32),
        ("alpha_low", np.float32),
        ("steps", np.int64),  # address of STEP, one a tensor
        ("thresholds", np.int64),  # address of THRESHOLDS, one a tensor; of kernels with sums
    ],
    align=True,
)
STEP = np.dtype([("factor", np.float32), ("eps", np.float32)])
"""Of a tensor: ``theta += factor * m / (v^alpha + eps)``, both corrected for the moments' bias."""
ONE, ROOT, WHOLE, MODERATE_POWER, POWER = range(5)
"""Denominators: none (alpha = 0), sqrt(v) + eps, v + eps, v^alpha + eps."""
options_at = pointer_to(OPTIONS)
steps_at = pointer_to(STEP)


@jit_in_order
def _unscale(g: Array, scale: Float32) -> None:
    for i in range(g.shape[0]):
        g[i] = g[i] / scale


@jit_in_order
def _denominator(v: Float32, kind: int, high: Float32, low: Float32) -> Float32:
    if kind == ROOT:
        return np.sqrt(v)
    if kind == WHOLE:
        return v
    if kind == MODERATE_POWER:
        return power_of_moderate(v, high, low)
    return power_of(v, high, low)


@jit_in_order
def _update_block(
    theta: Array, g: Array, m: Array, v: Array, options: Array, step: Array, kind: int, old: Array
) -> Bool:
    """Update a block; return whether all of v was moderate (`power_of_moderate`).

    With that kind of denominator the parameters before are left in ``old``.
    """
    weight1, beta2, weight2 = options.weight1, options.beta2, options.weight2
    sign, kept = options.sign, options.kept
    decay, mask = options.coupled_decay, options.decay_mask
    high, low = options.alpha_high, options.alpha_low
    factor, eps = step.factor, step.eps
    least, most = HIGHEST_MODERATE, LOWEST_MODERATE
    for i in range(g.shape[0]):
        x = g[i] + decay * float_of(np.int32(bits_of(theta[i]) & mask))
        new_m = m[i] + weight1 * (sign * x - m[i])
        new_v = beta2 * v[i] + (weight2 * x) * x
        move = factor * new_m
        if kind != ONE:
            move = move / (_denominator(new_v, kind, high, low) + eps)
        if kind == MODERATE_POWER:
            old[i] = theta[i]
        if kind >= MODERATE_POWER:
            least = np.int32(min(least, bits_of(new_v)))
            most = np.int32(max(most, bits_of(new_v)))
        theta[i] = kept * theta[i] + move
        m[i] = new_m
        v[i] = new_v
    return least >= LOWEST_MODERATE and most <= HIGHEST_MODERATE


@jit_in_order
def _redo_steps(theta: Array, old: Array, m: Array, v: Array, options: Array, step: Array) -> None:
    """Make the step of a block anew, from parameters and new moments, where v is not moderate."""
    high, low, kept = options.alpha_high, options.alpha_low, options.kept
    for i in range(m.shape[0]):
        move = (step.factor * m[i]) / (power_of(v[i], high, low) + step.eps)
        theta[i] = kept * old[i] + move


@jit_in_order
def step_block(
    theta: Array,
    g: Array,
    m: Array,
    v: Array,
    options: Array,
    step: Array,
    kind: int,
    old: Array,
    is_moderate: Bool,
) -> Bool:
    """Update a block by what suits it; return whether the next is likely to be moderate."""
    if options.grad_scale != np.float32(1):
        _unscale(g, options.grad_scale)
    if kind != POWER:
        _update_block(theta, g, m, v, options, step, kind, old)
    elif is_moderate:  # as the block before was
        is_moderate = _update_block(theta, g, m, v, options, step, MODERATE_POWER, old)
        if not is_moderate:
            _redo_steps(theta, old, m, v, options, step)
    else:
        is_moderate = _update_block(theta, g, m, v, options, step, POWER, old)
    return is_moderate


@jit_in_order
def _update(data: Address, kind: int) -> None:
    job = job_of(data)
    options = carray(options_at(job.extra), 1)[0]
    steps = carray(steps_at(options.steps), job.n_tensors)
    old = np.empty(BLOCK, np.float32)
    table, numel, first, last, _ = next_part(data, 4)
    while first < last:
        is_moderate = True
        for item, start, stop in blocks(numel, first, last):
            n, at = stop - start, 4 * start
            theta, g = float32_array(table[item, 0] + at, n), float32_array(table[item, 1] + at, n)
            m, v = float32_array(table[item, 2] + at, n), float32_array(table[item, 3] + at, n)
            is_moderate = step_block(theta, g, m, v, options, steps[item], kind, old, is_moderate)
        table, numel, first, last, _ = next_part(data, 4)


@Kernel
def update_without_power(data: Address) -> None:
    """Update where alpha = 0; tables hold parameter, gradient, moments, ``extra`` `OPTIONS`."""
    _update(data, ONE)


@Kernel
def update_by_root(data: Address) -> None:
    """Update where alpha = 1/2."""
    _update(data, ROOT)


@Kernel
def update_by_whole(data: Address) -> None:
    """Update where alpha = 1."""
    _update(data, WHOLE)


@Kernel
def update_by_power(data: Address) -> None:
    """Update where alpha is any other number from -1 to 1."""
    _update(data, POWER)


KERNELS = {
    ONE: update_without_power,
    ROOT: update_by_root,
    WHOLE: update_by_whole,
    POWER: update_by_power,
}
"""By kind of denominator."""


def kind_of(alpha: float) -> int:
    """Return the kind of denominator of an exponent."""
    return {0.0: ONE, 0.5: ROOT, 1.0: WHOLE}.get(float(alpha), POWER)
