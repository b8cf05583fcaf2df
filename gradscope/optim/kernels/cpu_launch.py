"""Launch of the CPU kernel of SMES."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradscope.errors import warn
from gradscope.native.tensors import fit_together
from gradscope.native.threads import Threads
from gradscope.optim.kernels.foreach import update_foreach
from gradscope.optim.kernels.power import split_alpha
from gradscope.optim.step_sums import MAXIMA, STEP_SUMS, StepSums
from gradscope.optim.update import corrections

if TYPE_CHECKING:
    from gradscope.native.compiler import Kernel

MAX_ALPHA = 1.0
"""Largest magnitude of the exponent that the kernel can raise to."""
_NEGLIGIBLE = 2.0**-24
"""What may be left out beside 1 in float32."""
Lists = tuple[list[Tensor], ...]


def can_compile(group: dict[str, Any], *, has_sums: bool = False) -> bool:
    """Whether the kernel of a group compiles on this machine; the first call does it."""
    return _compiles(*_choice(group), has_sums)


@functools.cache
def _compiles(kind: str, has_decay: bool, has_sums: bool) -> bool:
    try:
        _ = _kernel(kind, has_decay, has_sums).address
    except Exception as error:  # whatever keeps it from compiling must not stop a training
        _warn_of_foreach(f"{type(error).__name__}: {error}")
        return False
    return True


@functools.cache
def _warn_of_foreach(reason: str) -> None:
    warn(
        "SMES has no compiled kernel on this machine and steps through PyTorch's foreach "
        f"operations, more slowly. The reason: {reason}",
        stacklevel=3,
    )


def _choice(group: dict[str, Any]) -> tuple[str, bool]:
    """Return the kind of denominator and whether decay is coupled: what chooses the kernel."""
    alpha, eps = group["alpha"], group["eps"]
    has_decay = bool(group["weight_decay"]) and not group["decoupled_weight_decay"]
    kind = {0: "ONE", 0.5: "ROOT", 1: "WHOLE"}.get(alpha, "POWER")
    return ("INVERSE" if alpha < 0 and eps <= _NEGLIGIBLE else kind), has_decay


def _kernel(kind: str, has_decay: bool, has_sums: bool) -> Kernel:
    from gradscope.optim.kernels import cpu, cpu_sums

    make = cpu_sums.update_and_sum_kernel if has_sums else cpu.update_kernel
    return make(getattr(cpu, kind), has_decay)


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
    request: StepSums | None = None,
) -> None:
    """Update through our kernel; what is not float32 in one layout goes through foreach.

    ``grad_scale`` is GradScaler's factor where the optimizer unscales by itself; sums are of the
    gradient before that.
    """
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
    scale = 1.0 if grad_scale is None else grad_scale.item()
    if request is not None:
        asked = [position is not None for position in request.positions(fast[0])]
        summed, fast = (_pick(fast, asked, wanted) for wanted in (True, False))
        if summed[0]:
            _run_and_sum(group, summed, scale, request)
    if fast[0]:
        _run(group, fast, scale)


def _run(
    group: dict[str, Any],
    lists: Lists,
    grad_scale: float,
    thresholds: NDArray[np.void] | None = None,
) -> NDArray[np.float64]:
    """Run the kernel over all tensors; with thresholds that which also makes the sums."""
    from gradscope.native.jobs import run_job

    has_sums = thresholds is not None
    table = np.array([[t.data_ptr() for t in tensors] for tensors in zip(*lists[:4], strict=True)])
    numel = np.array([p.numel() for p in lists[0]])
    steps = _steps(group, lists[4])  # kept here, as thresholds are, while the kernel reads them
    addresses = {"steps": steps.ctypes.data, "thresholds": 0}
    if thresholds is not None:
        addresses["thresholds"] = thresholds.ctypes.data
    options = _options(group, grad_scale, addresses)
    return run_job(
        _kernel(*_choice(group), has_sums),
        _threads(),
        table,
        numel,
        n_sums=len(STEP_SUMS) if has_sums else 0,
        extra=options.ctypes.data,
    )


def _run_and_sum(group: dict[str, Any], lists: Lists, grad_scale: float, request: StepSums) -> None:
    from gradscope.native.jobs import combine_parts
    from gradscope.native.sums.moments import round_inward

    rows = [row for row in request.positions(lists[0]) if row is not None]
    thresholds = round_inward(request.below.numpy()[rows], request.above.numpy()[rows])
    parts = _run(group, lists, grad_scale, thresholds)
    request.out.numpy()[rows, : len(STEP_SUMS)] = combine_parts(parts, MAXIMA)
    request.filled += rows


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


def _step(group: dict[str, Any], number: float) -> tuple[float, float, int]:
    """Return factor and eps of ``theta += factor * m / (v^alpha + eps)``, and the bits of `most`.

    ``m_hat / (v_hat^alpha + eps) = c2^alpha / c1 * m / (v^alpha + c2^alpha eps)``, c the
    corrections of the bias.
    """
    alpha = group["alpha"]
    correction1, correction2 = corrections(number, group["betas"], group["bias_correction"])
    step_size = float(group["lr"]) / correction1
    if alpha == 0:
        return -step_size / (1 + group["eps"]), 0.0, 0
    scale = correction2**alpha
    eps = scale * group["eps"]
    exponent = 125.0
    if alpha < 0 and eps:  # eps is negligible up to v = (2^24 eps)^(1 / alpha)
        exponent = max(min(math.log2(eps / _NEGLIGIBLE) / alpha, 125.0), -126.0)
    return -step_size * scale, eps, (math.floor(exponent) + 127) << 23


def _options(
    group: dict[str, Any], grad_scale: float, addresses: dict[str, int]
) -> NDArray[np.void]:
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
        "kept": 1 - float(group["lr"]) * decay if is_decoupled else 1,
        "grad_scale": grad_scale,
        "alpha_high": high,
        "alpha_low": low,
        **addresses,
    }
    return np.array([tuple(values[name] for name in OPTIONS.names or ())], dtype=OPTIONS)
