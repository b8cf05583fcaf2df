"""Parameters that several optimizers step."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.record.loops.training_loops import run


class TiedHead(nn.Module):
    """An embedding whose weight is that of the head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.body = nn.Linear(6, 6)
        self.head = nn.Linear(6, 10)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.body(self.embed(tokens)).tanh())


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.filterwarnings("ignore:several optimizers step 'embed.weight'")
def test_a_weight_of_two_optimizers_has_a_row_for_each_step(tmp_path, every):
    """SGD steps embedding and body, then Adam the same weight and the head's bias."""
    torch.manual_seed(0)
    model = TiedHead().double()
    first = torch.optim.SGD([model.embed.weight, *model.body.parameters()], lr=0.5)
    second = torch.optim.Adam([model.head.weight, model.head.bias], lr=0.01, betas=(0.8, 0.9))
    tokens = torch.randint(0, 10, (5, 7))
    expected: list[tuple[float, ...]] = []
    losses: list[float] = []
    m = v = torch.zeros(10, 6, dtype=torch.float64)

    def step(k, recorder):
        nonlocal m, v
        for optimizer in (first, second):
            optimizer.zero_grad()
        loss = cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        total = nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        g, theta = model.embed.weight.grad.clone(), model.embed.weight.detach().clone()
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        u = 0.01 * (m / (1 - 0.8**k)) / ((v / (1 - 0.9**k)).sqrt() + 1e-8)
        own = [
            torch.cat([p.grad.flatten() for p in o.param_groups[0]["params"]])
            for o in (first, second)
        ]
        coefficient = min(1.0, 0.3 / (float(total) + 1e-6))
        clipped = [float(grads.norm()) / coefficient for grads in own]
        expected.append((g.norm(), theta.norm(), 0.5 * g.norm(), clipped[0], coefficient))
        expected.append((g.norm(), (theta - 0.5 * g).norm(), u.norm(), clipped[1], coefficient))
        losses.append(loss.item())
        recorder.log(loss=loss)
        first.step()
        second.step()

    optimizers = {"sgd": first, "adam": second}
    tree = run(model, optimizers, tmp_path, step, 4, every=every)
    training = tree["training"]
    assert training["step"].values.tolist() == list(range(1, 9))
    assert training["optimizer"].values.tolist() == [1, 2] * 4
    assert training["round"].values.tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    np.testing.assert_allclose(training["loss"].values[::2], losses)
    rows = [k for k in range(8) if k // 2 % every == 0]
    table = np.array([[float(x) for x in row] for row in expected])[rows]
    assert tree["gradients"]["step"].values.tolist() == [k + 1 for k in rows]
    for name, column in (
        ("gradients/grad_norm", 0),
        ("updates/param_norm", 1),
        ("updates/update_norm", 2),
    ):
        got = tree[name].sel(param="embed.weight").values
        np.testing.assert_allclose(got, table[:, column], rtol=1e-6, err_msg=name)
    for name, column in (("total_grad_norm", 3), ("clip_coefficient", 4)):
        np.testing.assert_allclose(training[name].values[rows], table[:, column], rtol=1e-6)
    assert np.isnan(tree["gradients/grad_norm"].sel(param="head.bias").values[::2]).all()
    assert np.isnan(tree["gradients/grad_norm"].sel(param="body.weight").values[1::2]).all()
    assert tree["gradients"]["param_group"].sel(param="embed.weight") == -1
    assert np.isnan(tree["second_moments/signal_fraction"].sel(param="embed.weight").values).all()
    assert np.isfinite(tree["second_moments/signal_fraction"].sel(param="head.bias").values[1])
    assert json.loads(tree.attrs["shared_params"]) == ["embed.weight"]
    assert "changed_outside_step" not in tree.attrs
