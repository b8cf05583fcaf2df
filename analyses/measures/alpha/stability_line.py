r"""Learning rate at which training becomes unstable, by linear theory, from the initial network.

With a second moment that changes slowly, SMES is gradient descent with an averaged momentum under
a fixed diagonal preconditioner :math:`P = \hat v^\alpha + \epsilon`. On a quadratic with Hessian H
the directions of :math:`P^{-1/2} H P^{-1/2}` decouple, each with the recursion of heavy ball, and
none of them grows if

.. math:: lr \cdot \lambda_{max}(P^{-1/2} H P^{-1/2}) < 2 (1 + \beta_1) / (1 - \beta_1),

which is 38 at beta1 = 0.9. For Adam (alpha = 0.5) this is the threshold of J. Cohen et al.,
*Adaptive Gradient Methods at the Edge of Stability*, arXiv 2207.14484, section 2; other alphas
differ by P alone. All of it is measured before the first step: nothing is fitted to a run.

Assumptions: the loss is near its quadratic expansion, v is at its average over batches of the
initial network, and the batch's noise plays no part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Vector = NDArray[np.float64]
Batch = tuple[Tensor, Tensor]
TOLERANCE = 1e-3
"""Relative error of the largest eigenvalue; a step of the grids of learning rates is a factor 3."""


def critical_lr(sharpness: float, beta1: float) -> float:
    """Return the learning rate above which the sharpest direction grows.

    Examples
    --------
    >>> round(critical_lr(1.0, 0.9), 6), critical_lr(1.0, 0.0)
    (38.0, 2.0)
    """
    return 2 * (1 + beta1) / ((1 - beta1) * sharpness)


def inverse_preconditioner(second_moment: Vector, alpha: float, eps: float) -> Vector:
    """Return ``1 / (v^alpha + eps)`` as SMES takes it: 0 where v = 0 and alpha < 0.

    Examples
    --------
    >>> inverse_preconditioner(np.array([0.0, 4.0]), -0.5, 0.0).tolist()
    [0.0, 2.0]
    """
    if alpha > 0:
        denominator: Vector = np.power(second_moment, alpha) + eps
        return 1 / denominator
    amplified: Vector = np.power(second_moment, -alpha)
    return amplified / (1 + eps * amplified)


def second_moments(model: nn.Module, batches: Sequence[Batch]) -> Vector:
    """Return the squared gradient of each parameter, averaged over batches at fixed weights."""
    total = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    for inputs, targets in batches:
        total += _gradient(model, inputs, targets, create_graph=False) ** 2
    mean: Vector = (total / len(batches)).numpy()
    return mean


def hessian_product(model: nn.Module, batch: Batch) -> Callable[[Vector], Vector]:
    """Return the product of the loss's Hessian with a vector, as a function of the vector."""
    gradient = _gradient(model, *batch, create_graph=True)
    params = list(model.parameters())

    def product(vector: Vector) -> Vector:
        along = gradient @ torch.from_numpy(np.ascontiguousarray(vector.ravel()))
        found: Vector = _flat(torch.autograd.grad(along, params, retain_graph=True)).numpy()
        return found

    return product


def sharpness(product: Callable[[Vector], Vector], inverse: Vector) -> float:
    """Return the largest eigenvalue of the preconditioned Hessian (Lanczos).

    Parameters
    ----------
    product : callable
        Product of the Hessian with a vector.
    inverse : ndarray, shape (n,)
        Diagonal of the inverse preconditioner.
    """
    root, n = np.sqrt(inverse), len(inverse)
    operator = LinearOperator((n, n), matvec=lambda x: root * product(root * x.ravel()))
    start = root * np.random.default_rng(0).standard_normal(n)
    (largest,) = eigsh(
        operator, k=1, which="LA", v0=start, tol=TOLERANCE, return_eigenvectors=False
    )
    return float(largest)


def _gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, create_graph: bool) -> Tensor:
    loss = cross_entropy(model(inputs), targets)
    return _flat(torch.autograd.grad(loss, list(model.parameters()), create_graph=create_graph))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors]).double()
