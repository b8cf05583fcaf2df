"""The mathematics of SMES as one pure function, against which every faster path is tested.

References
----------
G. Zhang, H. Liu. The Unified Balance Theory of Second-Moment Exponential Scaling Optimizers in
Visual Tasks. arXiv:2405.18498.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from gradscope.optim.kernels.power import power


class Updated(NamedTuple):
    """What `smes_update` returns: the parameter and both moments after the step."""

    param: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


def smes_update(
    param: Tensor,
    grad: Tensor,
    *,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: float | Tensor,
    lr: float | Tensor,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    alpha: float = 0.5,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    bias_correction: bool = True,
    maximize: bool = False,
) -> Updated:
    """Compute one SMES step of one tensor, changing nothing in place.

    ``m <- beta1 m + (1 - beta1) g``, ``v <- beta2 v + (1 - beta2) g^2``,
    ``theta <- theta - lr m_hat / (v_hat^alpha + eps)``; eps stands outside the power. At alpha = 0
    the denominator is 1 + eps and v is kept all the same. Where v = 0 = m the step is 0.

    Parameters
    ----------
    param, grad : Tensor, any shape and floating dtype
        The parameter and its gradient.
    exp_avg, exp_avg_sq : Tensor, float32 or float64, shape of ``param``
        The raw moments before the step. The arithmetic is done in their dtype.
    step : float or Tensor, 0-d
        Number of this step, counted from 1.
    lr, betas, eps, alpha, weight_decay, decoupled_weight_decay, bias_correction, maximize
        As in `gradscope.SMES`.

    Returns
    -------
    Updated
        The new parameter, in its own dtype, and the new moments.

    References
    ----------
    arXiv:2405.18498 for the exponent; arXiv:1412.6980, algorithm 1, for the moments.
    """
    theta, m, v = smes_moments(
        param,
        grad,
        exp_avg=exp_avg,
        exp_avg_sq=exp_avg_sq,
        betas=betas,
        coupled_decay=0.0 if decoupled_weight_decay else weight_decay,
        decoupled_decay=lr * weight_decay if decoupled_weight_decay else 0.0,
        maximize=maximize,
    )
    correction1, correction2 = corrections(step, betas, bias_correction)
    denominator = power(v, alpha) / correction2**alpha + eps
    theta = descend(theta, m, denominator, lr / correction1)
    return Updated(theta.to(param.dtype), m, v)


def smes_moments(
    param: Tensor,
    grad: Tensor,
    *,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    betas: tuple[float, float],
    coupled_decay: float = 0.0,
    decoupled_decay: float | Tensor = 0.0,
    maximize: bool = False,
) -> Updated:
    """Decay the weights and average the gradient and its square, all in the moments' dtype.

    Returns
    -------
    Updated
        The decayed parameter, not yet moved, and the new raw moments.
    """
    beta1, beta2 = betas
    theta, g = param.to(exp_avg.dtype), grad.to(exp_avg.dtype)
    g = -g if maximize else g
    if isinstance(decoupled_decay, Tensor) or decoupled_decay:
        theta = theta * (1 - decoupled_decay)
    if coupled_decay:
        g = g.add(theta, alpha=coupled_decay)
    m = exp_avg.lerp(g, 1 - beta1)
    v = (beta2 * exp_avg_sq).addcmul(g, g, value=1 - beta2)
    return Updated(theta, m, v)


def corrections(
    step: Any, betas: tuple[float, float], bias_correction: bool = True
) -> tuple[Any, Any]:
    """Return ``1 - beta^step`` for both moments, or ones; tensors where the step is a tensor."""
    if not bias_correction:
        return 1.0, 1.0
    return 1 - betas[0] ** step, 1 - betas[1] ** step


def descend(theta: Tensor, m: Tensor, denominator: Tensor, step_size: float | Tensor) -> Tensor:
    """Return ``theta - step_size * m / denominator``, the step size a number or a tensor."""
    if isinstance(step_size, Tensor):
        # addcdiv takes no tensor as its factor; a step size of 0 makes the quotient 0.
        return theta.addcdiv(m, denominator / -step_size)
    return theta.addcdiv(m, denominator, value=-step_size)
