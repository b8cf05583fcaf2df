"""Which of the equal ways to compute a group's update is taken, and the plainest of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradscope.native import cuda_graphs
from gradscope.native.tensors import fit_together
from gradscope.optim.kernels.cpu_launch import MAX_ALPHA, can_compile, update_compiled
from gradscope.optim.kernels.cuda_launch import has_triton, update_triton
from gradscope.optim.kernels.foreach import update_foreach
from gradscope.optim.kernels.fused import update_adam_kernel
from gradscope.optim.kernels.sharded import local
from gradscope.optim.step_sums import StepSums
from gradscope.optim.update import smes_update

Group = dict[str, Any]
_HALF = (torch.float16, torch.bfloat16)


class Scaling(NamedTuple):
    """GradScaler's factor and finding, set on optimizers that unscale by themselves."""

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None


def lives_on_device(group: Group) -> bool:
    """Whether the step count is kept beside the parameter, as one kernel or a graph needs it."""
    return bool(group["capturable"] or group["fused"])


def update_group(
    group: Group,
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    scaling: Scaling,
    request: StepSums | None = None,
) -> None:
    """Update a group's tensors in place by the fastest path that its options allow.

    The compiled path also makes the sums of a ``request``.
    """
    if not params:
        return
    if torch.compiler.is_compiling():
        update_plain(group, params, grads, exp_avgs, exp_avg_sqs, steps)
        return
    given = params
    grads = local(grads, like=params)
    params, exp_avgs, exp_avg_sqs = local(params), local(exp_avgs), local(exp_avg_sqs)
    lists = (params, grads, exp_avgs, exp_avg_sqs, steps)
    path = choose_path(group, params, is_uniform=_have_one_layout(params, grads, exp_avgs))
    if path == "adam":
        update_adam_kernel(group, *lists, *scaling)
    elif path == "triton":
        update_triton(group, *lists, *scaling)
    elif path == "compiled":
        if scaling.found_inf is None or not scaling.found_inf.item():
            update_compiled(group, *lists, scaling.grad_scale, request)
    elif not _skipped(grads, scaling):
        (update_foreach if path == "foreach" else update_plain)(group, *lists)
    if path in ("adam", "triton", "compiled"):  # other operators tell autograd themselves
        torch.autograd.graph.increment_version(given)


def makes_sums(group: Group, params: list[Tensor], states: Sequence[dict[str, Any]]) -> list[bool]:
    """Whether the next step of a group's parameters with gradients will make sums on the way."""
    grads = [p.grad for p in params if p.grad is not None]
    if choose_path(group, params, is_uniform=_have_one_layout(params, grads, grads)) != "compiled":
        return [False] * len(params)
    if not can_compile(group, has_sums=True):
        return [False] * len(params)
    names = ("exp_avg", "exp_avg_sq")
    return [
        fit_together(p, (g, *(state[name] for name in names if name in state)))
        for p, g, state in zip(params, grads, states, strict=True)
    ]


def choose_path(group: Group, params: list[Tensor], *, is_uniform: bool = True) -> str:
    """Name the path: "plain", "foreach", "adam" (torch's fused kernel), "compiled" or "triton".

    Torch's and Triton's kernels walk through memory in storage order, which all lists must share:
    ``is_uniform``.

    Raises
    ------
    RuntimeError
        Where ``fused=True`` asks for a kernel that is not there.
    """
    if group["capturable"] and cuda_graphs.is_capturing():
        return "plain"
    if group["foreach"] or (group["fused"] is False and group["foreach"] is None):
        return "plain" if group["capturable"] else "foreach"
    if group["fused"] or (group["fused"] is None and group["foreach"] is None):
        kernel = _kernel(group, params, is_uniform)
        if kernel:
            return kernel
        return "plain" if group["capturable"] else "foreach"
    return "plain"


def _kernel(group: Group, params: list[Tensor], is_uniform: bool) -> str | None:
    devices, dtypes = {p.device.type for p in params}, {p.dtype for p in params}
    is_adam = group["alpha"] == 0.5 and group["bias_correction"] and not dtypes & set(_HALF)
    if is_adam and is_uniform and devices <= {"cpu", "cuda"}:
        return "adam"
    if devices == {"cpu"} and torch.float32 in dtypes and abs(group["alpha"]) <= MAX_ALPHA:
        return "compiled" if can_compile(group) else None
    if devices != {"cuda"} or torch.float64 in dtypes or not is_uniform:
        return None
    if has_triton():
        return "triton"
    if group["fused"]:
        raise RuntimeError("fused=True needs triton for this alpha; install it or leave fused=None")
    return None


def _have_one_layout(params: list[Tensor], grads: list[Tensor], moments: list[Tensor]) -> bool:
    together = zip(params, grads, moments, strict=True)
    return all(p.stride() == g.stride() == m.stride() for p, g, m in together)


def _skipped(grads: list[Tensor], scaling: Scaling) -> bool:
    """Do GradScaler's part for a path that is no kernel: skip the step, or unscale."""
    if scaling.found_inf is not None and scaling.found_inf.item():
        return True
    if scaling.grad_scale is not None:
        torch._foreach_div_(grads, scaling.grad_scale.item())
    return False


def update_plain(
    group: Group,
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
) -> None:
    """Update one tensor after the other through `smes_update`."""
    names = ("betas", "eps", "alpha", "weight_decay", "decoupled_weight_decay")
    options = {name: group[name] for name in (*names, "bias_correction", "maximize")}
    for param, grad, m, v, step in zip(params, grads, exp_avgs, exp_avg_sqs, steps, strict=True):
        step += 1
        updated = smes_update(
            param, grad, exp_avg=m, exp_avg_sq=v, **step_and_lr(group, step), **options
        )
        param.copy_(updated.param)
        m.copy_(updated.exp_avg)
        v.copy_(updated.exp_avg_sq)


def step_and_lr(group: Group, step: Tensor) -> dict[str, Any]:
    """Return both as numbers, or as tensors where the step must not wait for the device."""
    if group["capturable"] or torch.compiler.is_compiling():
        return {"step": step, "lr": group["lr"]}
    return {"step": step.item(), "lr": float(group["lr"])}
