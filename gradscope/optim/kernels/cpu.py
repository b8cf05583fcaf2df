"""The CPU kernel of SMES: one pass over gradient, moments and parameter of all tensors at once."""

from __future__ import annotations

import functools

import numpy as np
from numba.np.numpy_support import carray

from gradscope.native.bits import bits_of, float32_array, pointer_to
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
        ("kept", np.float32),  # 1 - lr * weight_decay where decay is decoupled, else 1
        ("grad_scale", np.float32),  # GradScaler's; 1: none
        ("alpha_high", np.float32),
        ("alpha_low", np.float32),
        ("steps", np.int64),  # address of STEP, one a tensor
        ("thresholds", np.int64),  # address of THRESHOLDS, one a tensor; of kernels with sums
    ],
    align=True,
)
STEP = np.dtype([("factor", np.float32), ("eps", np.float32), ("most", np.int32)])
"""Of a tensor: ``theta += factor * m / (v^alpha + eps)``, both corrected for the moments' bias.

``most`` has the bits of the largest v that the faster loops of POWER and INVERSE can take.
"""
ONE, ROOT, WHOLE, POWER, INVERSE = range(5)
"""Denominators: none (alpha = 0), sqrt(v) + eps, v + eps, v^alpha + eps. The last is for alpha < 0:
the factor v^-alpha, wherever eps is below half a unit in the last place of v^alpha."""
_MODERATE = 8
"""Added to POWER and INVERSE for moderate v (`power_of_moderate`) no larger than ``most``."""
options_at = pointer_to(OPTIONS)
steps_at = pointer_to(STEP)


@jit_in_order
def _unscale(g: Array, scale: Float32) -> None:
    for i in range(g.shape[0]):
        g[i] = g[i] / scale


@jit_in_order
def _move(
    m: Float32, v: Float32, high: Float32, low: Float32, factor: Float32, eps: Float32, kind: int
) -> Float32:
    if kind == ONE:
        return factor * m
    if kind == ROOT:
        return (factor * m) / (np.sqrt(v) + eps)
    if kind == WHOLE:
        return (factor * m) / (v + eps)
    if kind == _MODERATE + INVERSE:
        return (factor * m) * power_of_moderate(v, -high, -low)
    if kind == _MODERATE + POWER:
        return (factor * m) / (power_of_moderate(v, high, low) + eps)
    return (factor * m) / (power_of(v, high, low) + eps)


@jit_in_order
def _update_block(
    theta: Array,
    g: Array,
    m: Array,
    v: Array,
    options: Array,
    step: Array,
    kind: int,
    has_decay: bool,
    old: Array,
) -> Bool:
    """Update a block; return whether all of v was moderate and at most ``step.most``.

    Kinds for moderate v leave the parameters before in ``old``.
    """
    weight1, beta2, weight2 = options.weight1, options.beta2, options.weight2
    sign, kept, decay = options.sign, options.kept, options.coupled_decay
    high, low, factor, eps = options.alpha_high, options.alpha_low, step.factor, step.eps
    least, most = HIGHEST_MODERATE, LOWEST_MODERATE
    for i in range(g.shape[0]):
        x = g[i] + decay * theta[i] if has_decay else g[i]
        new_m = m[i] + weight1 * (sign * x - m[i])
        new_v = beta2 * v[i] + (weight2 * x) * x
        if kind >= _MODERATE:
            old[i] = theta[i]
        if kind >= POWER:
            least = np.int32(min(least, bits_of(new_v)))
            most = np.int32(max(most, bits_of(new_v)))
        theta[i] = kept * theta[i] + _move(new_m, new_v, high, low, factor, eps, kind)
        m[i] = new_m
        v[i] = new_v
    return least >= LOWEST_MODERATE and most <= step.most


@jit_in_order
def _redo_steps(theta: Array, old: Array, m: Array, v: Array, options: Array, step: Array) -> None:
    """Make the step of a block anew, from parameters and new moments, where v is not moderate."""
    high, low, kept = options.alpha_high, options.alpha_low, options.kept
    for i in range(m.shape[0]):
        theta[i] = kept * old[i] + _move(m[i], v[i], high, low, step.factor, step.eps, POWER)


@jit_in_order
def step_block(
    theta: Array,
    g: Array,
    m: Array,
    v: Array,
    options: Array,
    step: Array,
    kind: int,
    has_decay: bool,
    old: Array,
    is_moderate: Bool,
) -> Bool:
    """Update a block by what suits it; return whether the next is likely to be moderate."""
    if options.grad_scale != np.float32(1):
        _unscale(g, options.grad_scale)
    if kind < POWER:
        _update_block(theta, g, m, v, options, step, kind, has_decay, old)
    elif is_moderate:  # as the block before was
        fast = _MODERATE + kind
        is_moderate = _update_block(theta, g, m, v, options, step, fast, has_decay, old)
        if not is_moderate:
            _redo_steps(theta, old, m, v, options, step)
    else:
        is_moderate = _update_block(theta, g, m, v, options, step, POWER, has_decay, old)
    return is_moderate


@jit_in_order
def _update(data: Address, kind: int, has_decay: bool) -> None:
    """Update all tensors; tables hold parameter, gradient, both moments, ``extra`` `OPTIONS`."""
    job = job_of(data)
    options = carray(options_at(job.extra), 1)[0]
    steps = carray(steps_at(options.steps), job.n_tensors)
    old = np.empty(BLOCK, np.float32)
    table, numel, first, last, _ = next_part(data, 4)
    while first < last:
        is_moderate = np.bool_(True)
        for item, start, stop in blocks(numel, first, last):
            n, at, step = stop - start, 4 * start, steps[item]
            theta, g = float32_array(table[item, 0] + at, n), float32_array(table[item, 1] + at, n)
            m, v = float32_array(table[item, 2] + at, n), float32_array(table[item, 3] + at, n)
            is_moderate = step_block(
                theta, g, m, v, options, step, kind, has_decay, old, is_moderate
            )
        table, numel, first, last, _ = next_part(data, 4)


@functools.cache
def update_kernel(kind: int, has_decay: bool) -> Kernel:
    """Return the kernel of a kind of denominator, with coupled decay or without."""

    def update(data: Address) -> None:
        _update(data, kind, has_decay)

    update.__name__ = f"update_{kind}_{int(has_decay)}"
    return Kernel(update)
