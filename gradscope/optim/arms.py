"""Experimental arms: which second moment is raised to alpha, and whose norm the step takes.

They tell apart what alpha changes at once: the size of the step, its share of each tensor, its
direction within a tensor. They need sums over tensors, so all groups are updated together.

References
----------
Grafting: N. Agarwal et al. Disentangling Adaptive Gradient Methods from Learning Rates.
arXiv:2002.11803.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradscope.optim.kernels.power import power
from gradscope.optim.kernels.sharded import local, total
from gradscope.optim.update import corrections, descend, smes_moments

Group = dict[str, Any]


@dataclass
class _Step:
    """One tensor's step in the making: ``theta - step_size * m / denominator``."""

    group: Group
    param: Tensor  # the parameter as the model holds it, sharded or not
    theta: Tensor  # its decayed local values in the moments' dtype
    m: Tensor
    v_hat: Tensor
    step_size: float | Tensor

    def denominator(self, alpha: float, scale: Tensor) -> Tensor:
        """Return ``s^alpha + eps``, s the second moment in the group's scope."""
        if self.group["scope"] == "element":
            scoped = self.v_hat
        elif self.group["scope"] == "residual":
            scoped = self.v_hat / scale
        else:
            scoped = scale
        eps: float = self.group["eps"]
        return power(scoped, alpha) + eps

    def norm_sq(self, denominator: Tensor) -> Tensor:
        """Return the local sum of squares of ``step_size * m / denominator`` in float64."""
        quotient = (self.step_size * (self.m / denominator)).double()
        return quotient.square().sum()


def update_arms(arms: list[tuple[Group, list[Tensor], *tuple[list[Tensor], ...]]]) -> None:
    """Update, in place, the groups that have a scope or a graft.

    ``arms`` holds, per group, the group and its params, grads, exp_avgs, exp_avg_sqs and steps.
    """
    steps = [step for arm in arms for step in _begin(*arm)]
    if not steps:
        return
    scales = geometric_means(steps)
    pairs = zip(steps, scales, strict=True)
    ends = [(s.denominator(s.group["alpha"], c), s.denominator(0.0, c)) for s, c in pairs]
    factors = graft_factors(steps, ends)
    for step, (of_alpha, of_zero), factor in zip(steps, ends, factors, strict=True):
        own = of_zero if _is_reversed(step.group) else of_alpha
        moved = descend(step.theta, step.m, own / factor.to(own.dtype), step.step_size)
        local([step.param])[0].copy_(moved)


def _is_reversed(group: Group) -> bool:
    return bool(group["graft"] != "none" and group["graft_from"] == "alpha")


def _begin(group: Group, params: list[Tensor], *lists: list[Tensor]) -> list[_Step]:
    """Advance the counts and moments of one group."""
    grads, exp_avgs, exp_avg_sqs, counts = lists
    grads = local(grads, like=params)
    lr = group["lr"] if group["capturable"] else float(group["lr"])
    decoupled = group["decoupled_weight_decay"]
    begun = []
    for param, grad, m, v, count in zip(
        params, grads, local(exp_avgs), local(exp_avg_sqs), counts, strict=True
    ):
        count += 1
        theta, new_m, new_v = smes_moments(
            local([param])[0],
            grad,
            exp_avg=m,
            exp_avg_sq=v,
            betas=group["betas"],
            coupled_decay=0.0 if decoupled else group["weight_decay"],
            decoupled_decay=lr * group["weight_decay"] if decoupled else 0.0,
            maximize=group["maximize"],
        )
        m.copy_(new_m)
        v.copy_(new_v)
        number = count if group["capturable"] else count.item()
        first, second = corrections(number, group["betas"], group["bias_correction"])
        begun.append(_Step(group, param, theta, m, new_v / second, lr / first))
    return begun


def geometric_means(steps: list[_Step]) -> list[Tensor]:
    """Return exp(mean ln v_hat over v_hat > 0): per tensor, or over all whose scope is "global".

    Where no entry is positive it is 1: there m is 0 too, and so is the step. It is 1, too, where
    no tensor's scope asks for a mean.
    """
    if all(step.group["scope"] == "element" for step in steps):
        return [step.m.new_ones(()) for step in steps]
    sums = total(torch.stack([_log_sums(step.v_hat) for step in steps]), [s.param for s in steps])
    is_global = torch.tensor([step.group["scope"] == "global" for step in steps])
    is_global = is_global.to(sums.device)[:, None]
    everywhere = torch.where(is_global, sums, 0).sum(0, keepdim=True)
    sums = torch.where(is_global, everywhere, sums)
    means = (sums[:, 0] / sums[:, 1].clamp(min=1)).exp()
    return [mean.to(step.m.dtype) for mean, step in zip(means, steps, strict=True)]


def _log_sums(v_hat: Tensor) -> Tensor:
    positive = v_hat > 0
    logs = torch.where(positive, v_hat, 1).double().log()
    return torch.stack([logs.sum(), positive.sum().double()])


def graft_factors(steps: list[_Step], ends: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Return the factor of each tensor's step: the source's norm over the direction's own.

    With d the direction's norm and s the source's: "tensor" s_i / d_i; "global" s / d;
    "profile" (s_i / d_i) (d / s), the source's shares at the direction's size; "none" 1.
    A direction without length gets 0.
    """
    local_sums = [
        torch.stack([step.norm_sq(denominator) for denominator in pair])
        for step, pair in zip(steps, ends, strict=True)
    ]
    of_alpha, of_zero = total(torch.stack(local_sums), [s.param for s in steps]).unbind(1)
    device = of_alpha.device
    is_reversed = torch.tensor([_is_reversed(step.group) for step in steps]).to(device)
    direction = torch.where(is_reversed, of_zero, of_alpha)
    source = torch.where(is_reversed, of_alpha, of_zero)
    per_tensor = _root_ratio(source, direction)
    factors = torch.ones_like(per_tensor)
    for kind in ("global", "tensor", "profile"):
        takes = torch.tensor([step.group["graft"] == kind for step in steps]).to(device)
        own = [torch.where(takes, x, 0).sum() for x in (source, direction)]
        choice = {
            "global": _root_ratio(*own),
            "tensor": per_tensor,
            "profile": per_tensor * _root_ratio(own[1], own[0]),
        }[kind]
        factors = torch.where(takes, choice, factors)
    return list(factors)


def _root_ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below, 0).sqrt()
