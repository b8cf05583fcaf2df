"""Launch our CUDA kernel over all tensors of a group at once."""

from __future__ import annotations

import importlib.util
import math
from collections import defaultdict
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from gradscope.optim.kernels.fused import at, beside
from gradscope.optim.kernels.power import split_alpha


@cache
def has_triton() -> bool:
    """Whether the compiler of our CUDA kernel is installed."""
    return importlib.util.find_spec("triton") is not None


def update_triton(
    group: dict[str, Any],
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    """Update through our kernel: one launch for all tensors of a device and dtype."""
    alike: dict[Any, list[tuple[Tensor, ...]]] = defaultdict(list)
    steps = beside(params, steps)
    torch._foreach_add_(steps, 1)
    for tensors in zip(params, grads, exp_avgs, exp_avg_sqs, steps, strict=True):
        if tensors[0].numel():
            kind = (tensors[0].dtype, tensors[1].dtype, _is_aligned(tensors[:4]))
            alike[(tensors[0].device, *kind)].append(tensors)
    for (device, *_), members in alike.items():
        _launch(group, members, at(grad_scale, device), at(found_inf, device))
    if found_inf is not None:
        found = [found_inf.to(step.device) for step in steps]
        torch._foreach_sub_(steps, found)


def _is_aligned(tensors: tuple[Tensor, ...]) -> bool:
    return tensors[0].numel() % 4 == 0 and all(t.data_ptr() % 16 == 0 for t in tensors)


def _launch(
    group: dict[str, Any],
    members: list[tuple[Tensor, ...]],
    grad_scale: Tensor | None,
    found_inf: Tensor | None,
) -> None:
    from triton import language as tl

    from gradscope.optim.kernels.cuda import BLOCK, smes_kernel

    columns = list(zip(*members, strict=True))
    addresses = tuple(t.data_ptr() for column in columns for t in column)
    param, grad = members[0][:2]
    tables = _tables(addresses, tuple(t.numel() for t in columns[0]), BLOCK, param.device)
    beta1, beta2 = group["betas"]
    high, low = split_alpha(group["alpha"])
    lr, is_lr_pointer = _kernel_lr(group["lr"], param.device)
    unused = tables[0]
    smes_kernel[(tables[2].numel(),)](
        *tables,
        len(members),
        lr,
        unused if grad_scale is None else grad_scale,
        unused if found_inf is None else found_inf,
        1 - beta1,
        1 - beta2,
        group["eps"],
        float(group["weight_decay"]),
        high,
        low,
        LOG_BETA1=math.log(beta1) if beta1 else -math.inf,
        LOG_BETA2=math.log(beta2) if beta2 else -math.inf,
        PARAM=getattr(tl, str(param.dtype).removeprefix("torch.")),
        GRAD=getattr(tl, str(grad.dtype).removeprefix("torch.")),
        IS_DECOUPLED=group["decoupled_weight_decay"],
        HAS_CORRECTION=group["bias_correction"],
        IS_MAXIMIZING=group["maximize"],
        HAS_SCALE=grad_scale is not None,
        HAS_FOUND=found_inf is not None,
        IS_ALIGNED=_is_aligned(members[0][:4]),
        IS_LR_POINTER=is_lr_pointer,
        BLOCK=BLOCK,
        num_warps=8,
    )


def _kernel_lr(lr: float | Tensor, device: torch.device) -> tuple[float | Tensor, bool]:
    if isinstance(lr, Tensor) and lr.device == device:
        return lr, True
    return float(lr), False


@lru_cache(maxsize=16)
def _tables(
    addresses: tuple[int, ...], sizes: tuple[int, ...], block: int, device: torch.device
) -> tuple[Tensor, ...]:
    """Put on the device where the tensors lie and which block works on which tensor."""
    blocks = torch.tensor([-(-size // block) for size in sizes])
    tensor_of = torch.repeat_interleave(torch.arange(len(sizes)), blocks)
    block_of = torch.arange(len(tensor_of)) - (blocks.cumsum(0) - blocks)[tensor_of]
    tables = (torch.tensor(addresses), torch.tensor(sizes), tensor_of.int(), block_of.int())
    return tuple(table.to(device) for table in tables)
