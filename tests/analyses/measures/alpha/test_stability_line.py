"""The line of stability: against dense linear algebra, and against SMES on a quadratic."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from analyses.measures.alpha.stability_line import (
    critical_lr,
    hessian_product,
    inverse_preconditioner,
    second_moments,
    sharpness,
)
from gradscope.optim.smes import SMES


@pytest.mark.parametrize(("factor", "is_stable"), [(0.97, True), (1.03, False)])
def test_smes_on_a_quadratic_leaves_the_line_where_it_says(factor, is_stable):
    curvature = 5.0
    x = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    lr = factor * critical_lr(curvature, 0.9)
    optimizer = SMES([x], lr=lr, alpha=0.0, eps=0.0, betas=(0.9, 0.999), bias_correction=False)
    for _ in range(300):
        x.grad = curvature * x.detach()
        optimizer.step()
    assert (abs(x.item()) < 1e-3) == is_stable
    assert (abs(x.item()) > 1e2) != is_stable


def test_moments_and_sharpness_agree_with_dense_algebra():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    batches = [(torch.randn(6, 3, dtype=torch.float64), torch.randint(2, (6,))) for _ in range(3)]
    names, params = zip(*model.named_parameters(), strict=True)

    def loss(flat, batch):
        parts = flat.split([p.numel() for p in params])
        own = {n: q.view_as(p) for n, q, p in zip(names, parts, params, strict=True)}
        return cross_entropy(torch.func.functional_call(model, own, batch[0]), batch[1])

    flat = torch.cat([p.detach().flatten() for p in params])
    jacobian, hessian_of = torch.autograd.functional.jacobian, torch.autograd.functional.hessian
    each = [jacobian(lambda x, b=batch: loss(x, b), flat) for batch in batches]
    moments = second_moments(model, batches)
    np.testing.assert_allclose(moments, torch.stack(each).square().mean(0), rtol=1e-12)
    hessian = hessian_of(lambda x: loss(x, batches[0]), flat).numpy()
    for alpha in (-0.5, 0.0, 0.5):
        root = np.sqrt(inverse_preconditioner(moments, alpha, 1e-8))
        expected = np.linalg.eigvalsh(root[:, None] * hessian * root).max()
        found = sharpness(hessian_product(model, batches[0]), root**2)
        assert found == pytest.approx(expected, rel=2e-3)


def test_a_parameter_without_gradient_does_not_move_at_negative_alpha():
    moments = np.array([0.0, 1e-4])
    assert inverse_preconditioner(moments, -0.5, 1e-8).tolist() == pytest.approx([0.0, 1e-2])
    assert inverse_preconditioner(moments, 0.0, 0.0).tolist() == [1.0, 1.0]
    assert inverse_preconditioner(moments, 0.5, 1e-8)[0] == pytest.approx(1e8)
