"""Torch's own fused kernel, which is SMES at alpha = 0.5."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer


def update_adam_kernel(
    group: dict[str, Any],
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    """Update through torch's own fused Adam or AdamW kernel: SMES at alpha = 0.5."""
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    steps = beside(params, steps)
    lists: list[Any] = [params, grads, exp_avgs, exp_avg_sqs, steps]
    for (device, _), (columns, _) in Optimizer._group_tensors_by_device_and_dtype(lists).items():
        theta, g, m, v, count = cast(list[list[Tensor]], columns)
        skip = at(found_inf, device)
        torch._foreach_add_(count, 1)
        kernel(
            theta,
            g,
            m,
            v,
            [],
            count,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=group["maximize"],
            grad_scale=at(grad_scale, device),
            found_inf=skip,
        )
        if skip is not None:
            torch._foreach_sub_(count, [skip] * len(count))


def beside(params: list[Tensor], steps: list[Tensor]) -> list[Tensor]:
    """Move step counts, in place, to the device of their parameters, where a kernel reads them."""
    for param, step in zip(params, steps, strict=True):
        if step.device != param.device:
            step.data = step.to(param.device)
    return steps


def at(value: Tensor | None, device: torch.device | None) -> Tensor | None:
    """Copy one of GradScaler's numbers to a device, None where there is none."""
    return None if value is None else value.to(device, non_blocking=True)
