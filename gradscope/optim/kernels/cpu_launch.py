"""Launch of the CPU kernel of SMES."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradscope.native.tensors import fit_together
from gradscope.native.threads import Threads
from gradscope.optim.kernels.foreach import update_foreach
from gradscope.optim.kernels.power import split_alpha
from gradscope.optim.update import corrections

MAX_ALPHA = 1.0
"""Largest magnitude of the exponent that the kernel can raise to."""
Lists = tuple[list[Tensor], ...]


@functools.cache
def can_compile() -> bool:
    """Whether the kernel compiles on this machine; the first call does it, later ones know."""
    try:
        from gradscope.optim.kernels.cpu import update_by_power

        _ = update_by_power.address
    except Exception as error:  # whatever keeps it from compiling must not stop a training
        warnings.warn(
            "SMES has no compiled kernel on this machine and steps through PyTorch's foreach "
            f"operations, more slowly. The reason: {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


@functools.cache
def _threads() -> Threads:
    return Threads()


def update_compiled(
    group: dict[str, Any],
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    grad_scale: Tensor | None,
) -> None:
    """Update through our kernel; what is not float32 in one layout goes through foreach.

    ``grad_scale`` is GradScaler's factor where the optimizer unscales by itself.
    """
    from gradscope.native.jobs import run_job
    from gradscope.optim.kernels import cpu

    lists = (params, grads, exp_avgs, exp_avg_sqs, steps)
    fits = [fit_together(p, (g, m, v)) for p, g, m, v, _ in zip(*lists, strict=True)]
    fast, slow = (_pick(lists, fits, wanted) for wanted in (True, False))
    if slow[0]:
        if grad_scale is not None:
            torch._foreach_div_(slow[1], grad_scale.item())
        update_foreach(group, *slow)
    if not fast[0]:
        return
    torch._foreach_add_(fast[4], 1)
    table = np.array([[t.data_ptr() for t in tensors] for tensors in zip(*fast[:4], strict=True)])
    numel = np.array([p.numel() for p in fast[0]])
    each = _steps(group, fast[4])
    options = _options(group, 1.0 if grad_scale is None else grad_scale.item(), each)
    special = {0: cpu.update_without_power, 0.5: cpu.update_by_root, 1: cpu.update_by_whole}
    kernel = special.get(group["alpha"], cpu.update_by_power)
    run_job(kernel, _threads(), table, numel, extra=options.ctypes.data)


def _pick(lists: Lists, fits: list[bool], wanted: bool) -> Lists:
    if all(fit is wanted for fit in fits):
        return lists
    return tuple(
        [item for item, fit in zip(column, fits, strict=True) if fit is wanted] for column in lists
    )


def _steps(group: dict[str, Any], counts: list[Tensor]) -> NDArray[np.void]:
    """Return the step of each tensor; counts differ where gradients have been missing."""
    from gradscope.optim.kernels.cpu import STEP

    numbers = [count.item() for count in counts]
    of_count = {number: _step(group, number) for number in set(numbers)}
    return np.array([of_count[number] for number in numbers], dtype=STEP)


def _step(group: dict[str, Any], number: float) -> tuple[float, float]:
    """Return factor and eps of ``theta += factor * m / (v^alpha + eps)``.

    ``m_hat / (v_hat^alpha + eps) = c2^alpha / c1 * m / (v^alpha + c2^alpha eps)``, c the
    corrections of the bias.
    """
    correction1, correction2 = corrections(number, group["betas"], group["bias_correction"])
    step_size = float(group["lr"]) / correction1
    if group["alpha"] == 0:
        return -step_size / (1 + group["eps"]), 0.0
    scale = correction2 ** group["alpha"]
    return -step_size * scale, scale * group["eps"]


def _options(group: dict[str, Any], grad_scale: float, steps: NDArray[np.void]) -> NDArray[np.void]:
    from gradscope.optim.kernels.cpu import OPTIONS

    beta1, beta2 = group["betas"]
    decay, is_decoupled = group["weight_decay"], group["decoupled_weight_decay"]
    sign = -1 if group["maximize"] else 1
    high, low = split_alpha(group["alpha"])
    values = {
        "weight1": 1 - beta1,
        "beta2": beta2,
        "weight2": 1 - beta2,
        "sign": sign,
        "coupled_decay": 0 if is_decoupled else sign * decay,
        "decay_mask": 0 if is_decoupled or not decay else -1,
        "kept": 1 - float(group["lr"]) * decay if is_decoupled else 1,
        "grad_scale": grad_scale,
        "alpha_high": high,
        "alpha_low": low,
        "steps": steps.ctypes.data,
    }
    return np.array([tuple(values[name] for name in OPTIONS.names or ())], dtype=OPTIONS)
