"""Sketches of gradients: the cosine between any two steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gradscope
from gradscope.derived.gradient_angle import sketch_cosine
from gradscope.errors import RecordingError


def test_sketches_give_the_cosine_between_any_two_steps(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(200, 100, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    a, noise = torch.randn(100, 200), torch.randn(100, 200)
    grads = [a, 2 * a, a + noise, noise]
    before = torch.get_rng_state()
    with gradscope.Recorder(
        model, optimizer, tmp_path / "run.h5", record={"gradients", "sketches"}
    ):
        for grad in grads:
            model.weight.grad = grad.clone()
            optimizer.step()
    assert torch.equal(before, torch.get_rng_state())
    tree = gradscope.open_recording(tmp_path / "run.h5").load()

    def cosine(i, j):
        return float(sketch_cosine(tree, i, j).sel(param="weight"))

    def true(i, j):
        return float(
            nn.functional.cosine_similarity(grads[i - 1].flatten(), grads[j - 1].flatten(), 0)
        )

    assert cosine(1, 2) == pytest.approx(1, abs=0.6)
    for pair in ((1, 3), (3, 4), (1, 4)):
        assert cosine(*pair) == pytest.approx(true(*pair), abs=4 / 8)  # four standard deviations
    with pytest.raises(RecordingError, match="nearest recorded step is 4"):
        sketch_cosine(tree, 1, 9)


def test_sketches_are_unbiased():
    from gradscope.record.measure.sketch import Sketcher
    from gradscope.record.model.layers import Param

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(777, generator=generator), torch.randn(777, generator=generator)
    b = b + 0.5 * a
    param = Param("p", nn.Parameter(a), None, "other", tuple(a.shape))
    products = [
        float(sketcher.sketch(param, a) @ sketcher.sketch(param, b))
        for sketcher in map(Sketcher, range(400))
    ]
    error = np.std(products) / 20
    assert abs(np.mean(products) - float(a.double() @ b.double())) < 4 * error
    assert np.std(products) == pytest.approx(float(a.norm() * b.norm()) / 8, rel=0.25)
