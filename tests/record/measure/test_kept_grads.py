"""The gradient of a row is the one before the step, whatever the optimizer does to ``p.grad``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gradscope

LR, DECAY = 0.1, 0.5


class Writer(torch.optim.Optimizer):
    """SGD that uses the gradient as a buffer: in place, by ``.data``, or only from step 5 on."""

    def __init__(self, params, how):
        super().__init__(params, {"lr": LR})
        self.how, self.n = how, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.n += 1
        for p in self.param_groups[0]["params"]:
            if self.how == "in place" or (self.how == "late" and self.n > 4):
                p.grad.add_(p, alpha=DECAY)
                p.sub_(p.grad, alpha=LR)
            elif self.how == "data":
                p.grad.data.add_(p, alpha=DECAY)
                p.sub_(p.grad, alpha=LR)
            elif self.how == "replaced":
                p.grad = p.grad + DECAY * p
                p.sub_(p.grad, alpha=LR)
            else:
                p.sub_(p.grad + DECAY * p, alpha=LR)


@pytest.mark.parametrize("how", ["in place", "data", "replaced", "late", "reads"])
def test_products_are_with_the_gradient_before_the_step(tmp_path, how):
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False)
    optimizer = Writer(model.parameters(), how)
    expected = []
    with gradscope.Recorder(model, optimizer, tmp_path / "run.h5"):
        for _ in range(7):
            optimizer.zero_grad()
            loss = model(torch.randn(6, 4)).square().mean()
            (g,) = torch.autograd.grad(loss, model.weight, retain_graph=True)
            loss.backward()
            u = -LR * (g + DECAY * model.weight.detach())
            g, u = g.double(), u.double()
            expected.append([float(g.norm()), float(-(g * u).sum()), float(u.norm())])
            optimizer.step()
    tree = gradscope.open_recording(tmp_path / "run.h5").load()
    names = ("gradients/grad_norm", "updates/descent", "updates/update_norm")
    found = np.stack([tree[name].values[:, 0] for name in names], axis=1)
    if how == "late":  # the step in which it writes for the first time has no copy: missing
        assert np.isnan(found[4, 1])
        found[4, 1] = expected[4][1]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
