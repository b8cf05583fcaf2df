import math

import numpy as np
import pytest
import torch

from gradscope.experiments.models.plain import Plain


def output_grad_slope(seed=0, depth=20, **options):
    """Slope over depth of the log RMS gradient of each linear layer's output, at initialisation."""
    torch.manual_seed(seed)
    network = Plain(600, 600, 10, depth=depth, **options)
    outputs = []
    for module in network.layers:
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _module, _inputs, out: outputs.append(out))
    logits = network(torch.randn(200, 600))
    loss = torch.nn.functional.cross_entropy(logits, torch.randint(10, (200,)))
    grads = torch.autograd.grad(loss, outputs)
    assert len(grads) == depth
    inner = [grad.square().mean().log().item() / 2 for grad in grads][2:-2]
    return np.polyfit(range(len(inner)), inner, 1)[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"activation": "relu", "batch_norm": True}, -math.log(math.pi / (math.pi - 1)) / 2),
        ({"activation": "relu"}, 0.0),
        ({"activation": "relu", "gain": 0.8}, -math.log(0.8)),
    ],
    ids=["batch norm", "He", "0.8 He"],
)
def test_gradients_grow_as_theory_says(options, expected):
    slopes = [output_grad_slope(seed, **options) for seed in range(3)]
    assert np.mean(slopes) == pytest.approx(expected, abs=0.02)


def test_tanh_of_small_gain_reverses_the_slope():
    assert output_grad_slope(activation="tanh", gain=0.8, bias=True) > 0.15


def test_depth_counts_hidden_layers_and_bias_is_optional():
    network = Plain(12, 5, 3, depth=4)
    assert [tuple(p.shape) for p in network.parameters()] == [(5, 12)] + [(5, 5)] * 3 + [(3, 5)]
    assert len(list(Plain(12, 5, 3, depth=4, bias=True).parameters())) == 10
