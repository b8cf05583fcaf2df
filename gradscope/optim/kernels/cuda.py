"""The CUDA kernel of SMES: one pass over gradient, moments and parameter of all tensors at once.

Runs on CPU, slowly, where the environment has ``TRITON_INTERPRET=1`` before triton is imported.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = 4096


@triton.jit
def smes_kernel(
    addresses,  # int64 (5 * n_tensors,): all params, grads, exp_avgs, exp_avg_sqs, steps
    sizes,  # int64 (n_tensors,)
    tensor_of,  # int32 (n_blocks,): the tensor that a block belongs to
    block_of,  # int32 (n_blocks,): the block's number within its tensor
    n_tensors,
    lr,  # a number, or a pointer to one
    grad_scale,  # pointers to GradScaler's numbers, read where it has them
    found_inf,
    one_minus_beta1,
    one_minus_beta2,
    eps,
    weight_decay,
    alpha_high,  # alpha in two parts, so that alpha_high * exponent is exact
    alpha_low,
    LOG_BETA1: tl.constexpr,
    LOG_BETA2: tl.constexpr,
    PARAM: tl.constexpr,
    GRAD: tl.constexpr,
    IS_DECOUPLED: tl.constexpr,
    HAS_CORRECTION: tl.constexpr,
    IS_MAXIMIZING: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    HAS_FOUND: tl.constexpr,
    IS_ALIGNED: tl.constexpr,  # addresses are multiples of 16, sizes of 4
    IS_LR_POINTER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Update one block of one tensor as `gradscope.optim.update.smes_update` does."""
    if HAS_FOUND and tl.load(found_inf) != 0:
        return
    tensor, index, inside = _block(sizes, tensor_of, block_of, IS_ALIGNED, BLOCK)
    params = _pointer(addresses + tensor, PARAM, IS_ALIGNED) + index
    grads = _pointer(addresses + n_tensors + tensor, GRAD, IS_ALIGNED) + index
    exp_avgs = _pointer(addresses + 2 * n_tensors + tensor, tl.float32, IS_ALIGNED) + index
    exp_avg_sqs = _pointer(addresses + 3 * n_tensors + tensor, tl.float32, IS_ALIGNED) + index

    if IS_LR_POINTER:
        lr = tl.load(lr).to(tl.float32)
    theta = tl.load(params, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(grads, mask=inside, other=0.0).to(tl.float32)
    m = tl.load(exp_avgs, mask=inside, other=0.0)
    v = tl.load(exp_avg_sqs, mask=inside, other=0.0)
    if HAS_SCALE:
        g = g / tl.load(grad_scale)
        tl.store(grads, g.to(GRAD), mask=inside)
    if IS_MAXIMIZING:
        g = -g
    theta, g = _decay(theta, g, lr, weight_decay, IS_DECOUPLED)
    m = m + one_minus_beta1 * (g - m)
    v = v + one_minus_beta2 * (g * g - v)
    m_hat, v_hat = m, v
    if HAS_CORRECTION:
        m_hat, v_hat = _correct(m, v, addresses + 4 * n_tensors + tensor, LOG_BETA1, LOG_BETA2)
    theta = theta - lr * m_hat / (_power(v_hat, alpha_high, alpha_low) + eps)

    tl.store(params, theta.to(PARAM), mask=inside)
    tl.store(exp_avgs, m, mask=inside)
    tl.store(exp_avg_sqs, v, mask=inside)


@triton.jit
def _block(sizes, tensor_of, block_of, IS_ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    """Return this program's tensor, the entries of its block, and which of them exist."""
    tensor = tl.load(tensor_of + tl.program_id(0))
    size = tl.load(sizes + tensor)
    if IS_ALIGNED:
        size = tl.multiple_of(size, 4)
    index = tl.load(block_of + tl.program_id(0)).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return tensor, index, index < size


@triton.jit
def _decay(theta, g, lr, weight_decay, IS_DECOUPLED: tl.constexpr):
    """Return parameter and gradient after the decay of one or the other."""
    if IS_DECOUPLED:
        theta = theta * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * theta
    return theta, g


@triton.jit
def _correct(m, v, step_address, LOG_BETA1: tl.constexpr, LOG_BETA2: tl.constexpr):
    """Return the bias-corrected moments; the tensor's step count lies behind an address."""
    step = tl.load(_pointer(step_address, tl.float32, False)).to(tl.float64)
    m_hat = m / (1 - tl.exp(step * LOG_BETA1)).to(tl.float32)
    return m_hat, v / (1 - tl.exp(step * LOG_BETA2)).to(tl.float32)


@triton.jit
def _pointer(address, KIND: tl.constexpr, IS_ALIGNED: tl.constexpr):
    """Read an address and say what lies there; on multiples of 16, loads become vectors."""
    pointer = tl.load(address).to(tl.pointer_type(KIND))
    if IS_ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def _power(v, alpha_high, alpha_low):
    """Return v^alpha within 1e-6: v = f 2^e, alpha e in whole and part, 2^part by exp2."""
    alpha = alpha_high + alpha_low
    is_denormal = v < 1.1754943508222875e-38
    bits = tl.where(is_denormal, v * 16777216.0, v).to(tl.int32, bitcast=True)
    e = (bits >> 23) - tl.where(is_denormal, 151, 127)
    f = ((bits & 0x7FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)
    is_large = f > 1.4142135
    f = tl.where(is_large, 0.5 * f, f)
    e = (e + is_large.to(tl.int32)).to(tl.float32)
    exact = alpha_high * e
    whole = tl.floor(exact + 0.5)
    part = (exact - whole) + (alpha_low * e + alpha * tl.log2(f))
    half = (whole.to(tl.int32)) >> 1
    rest = whole.to(tl.int32) - half
    # In two factors, so that neither leaves the range of float32 before the result does.
    result = tl.exp2(part) * _two_to(half) * _two_to(rest)
    at_zero = tl.where(alpha > 0, 0.0, tl.where(alpha < 0, float("inf"), 1.0))
    at_infinity = tl.where(alpha > 0, float("inf"), tl.where(alpha < 0, 0.0, 1.0))
    result = tl.where(v == 0, at_zero, tl.where(v == float("inf"), at_infinity, result))
    return tl.where(v == v, result, v)


@triton.jit
def _two_to(n):
    return ((n + 127) << 23).to(tl.float32, bitcast=True)
