"""SMES on many tensors at once, through torch's foreach operators.

On CPU the lists are cut into pieces that stay in the cache from the first operator to the last: the
arithmetic is the same, the memory is read once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gradscope.optim.kernels.power import power
from gradscope.optim.update import corrections

# Entries of each list that a thread works on at a time (float32: 512 KiB a list).
_PIECE = 2**17
Lists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


def update_foreach(
    group: dict[str, Any],
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
) -> None:
    """Update a group's tensors in place; equal to `smes_update` up to rounding."""
    torch._foreach_add_(steps, 1)
    alike = defaultdict(list)
    for p, g, m, v, step in zip(params, grads, exp_avgs, exp_avg_sqs, steps, strict=True):
        alike[(p.device, p.dtype, g.dtype, step.item())].append((p, g, m, v))
    for (device, _, _, count), members in alike.items():
        columns = tuple(list(column) for column in zip(*members, strict=True))
        pieces = _pieces(columns) if device.type == "cpu" else [columns]
        for piece in pieces:
            _update_alike(group, *piece, step=count)


def _update_alike(
    group: dict[str, Any],
    params: list[Tensor],
    grads: list[Tensor],
    ms: list[Tensor],
    vs: list[Tensor],
    *,
    step: float,
) -> None:
    """Update tensors of one device, dtype and step count."""
    lr, eps, alpha = float(group["lr"]), group["eps"], group["alpha"]
    beta1, beta2 = group["betas"]
    correction1, correction2 = corrections(step, group["betas"], group["bias_correction"])
    thetas = [p.to(m.dtype) for p, m in zip(params, ms, strict=True)]
    grads = [g.to(m.dtype) for g, m in zip(grads, ms, strict=True)]
    if group["maximize"]:
        grads = list(torch._foreach_neg(grads))
    if group["weight_decay"] and group["decoupled_weight_decay"]:
        torch._foreach_mul_(thetas, 1 - lr * group["weight_decay"])
    elif group["weight_decay"]:
        grads = list(torch._foreach_add(grads, thetas, alpha=group["weight_decay"]))
    torch._foreach_lerp_(ms, grads, 1 - beta1)
    torch._foreach_mul_(vs, beta2)
    torch._foreach_addcmul_(vs, grads, grads, value=1 - beta2)
    step_size = lr / correction1
    if alpha == 0:
        torch._foreach_add_(thetas, ms, alpha=-step_size / (1 + eps))
    else:
        # m / (v^a / c + eps) = c m / (v^a + c eps): one pass over v less.
        scale = correction2**alpha
        denominators = _powers(vs, alpha)
        torch._foreach_add_(denominators, scale * eps)
        torch._foreach_addcdiv_(thetas, ms, denominators, value=-step_size * scale)
    if params[0].dtype != thetas[0].dtype:
        torch._foreach_copy_(params, thetas)


def _powers(vs: list[Tensor], alpha: float) -> list[Tensor]:
    if vs[0].is_cuda and 0 < alpha <= 0.5:
        return list(torch._foreach_sqrt(vs) if alpha == 0.5 else torch._foreach_pow(vs, alpha))
    return [power(v, alpha) for v in vs]


def _pieces(columns: tuple[list[Tensor], ...]) -> Iterator[list[list[Tensor]]]:
    """Cut the lists into batches of views with about as many entries as the caches hold."""
    limit = _PIECE * torch.get_num_threads()
    batch: list[tuple[Tensor, ...]] = []
    size = 0
    for tensors in zip(*columns, strict=True):
        for views in _cut(tensors, limit):
            if batch and size + views[0].numel() > limit:
                yield [list(column) for column in zip(*batch, strict=True)]
                batch, size = [], 0
            batch.append(views)
            size += views[0].numel()
    if batch:
        yield [list(column) for column in zip(*batch, strict=True)]


def _cut(tensors: tuple[Tensor, ...], limit: int) -> Iterator[tuple[Tensor, ...]]:
    if tensors[0].numel() <= limit or not all(t.is_contiguous() for t in tensors):
        return iter([tensors])
    return zip(*(torch.split(t.view(-1), limit) for t in tensors), strict=True)
