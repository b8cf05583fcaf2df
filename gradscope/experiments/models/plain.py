"""Plain networks of constant width, whose gradients at initialisation are known analytically.

With ReLU, no batch normalisation and He initialisation times ``gain``, the gradient of a layer's
output shrinks by ``gain`` from layer to layer toward the input: the slope of its logarithm over
depth is ``-ln(gain)``. With ReLU and batch normalisation it grows toward the input by
``sqrt(pi / (pi - 1)) = 1.21``, a slope of -0.19 (arXiv 1902.08129).
"""

from __future__ import annotations

import math
from typing import cast

from torch import Tensor, nn

from gradscope.experiments.config import Config

NAMES = ("plain",)

BIAS_STD = 0.1
"""Standard deviation of the initial biases, where there are any."""


class Plain(nn.Module):
    """Linear layers of equal width, each followed by batch norm (or not) and an activation.

    Parameters
    ----------
    n_inputs, units, n_outputs : int
        Entries of a flattened input, width of every hidden layer, outputs.
    depth : int
        Hidden layers.
    activation : {"relu", "tanh"}
    batch_norm : bool
    gain : float
        Factor on the usual initialisation: std sqrt(2 / fan_in) for ReLU, sqrt(1 / fan_in) for
        tanh. The head has sqrt(1 / fan_in) whatever the gain.
    bias : bool
        Whether layers have biases, initially N(0, 0.1^2).
    """

    def __init__(
        self,
        n_inputs: int,
        units: int,
        n_outputs: int,
        *,
        depth: int,
        activation: str = "relu",
        batch_norm: bool = False,
        gain: float = 1.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        variance = gain**2 * (2.0 if activation == "relu" else 1.0)
        layers: list[nn.Module] = []
        for fan_in in [n_inputs] + [units] * (depth - 1):
            layers.append(_linear(fan_in, units, variance=variance, bias=bias))
            layers += [nn.BatchNorm1d(units)] if batch_norm else []
            layers.append(nn.ReLU() if activation == "relu" else nn.Tanh())
        self.layers = nn.Sequential(*layers)
        self.head = _linear(units, n_outputs, variance=1.0, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits (batch, n_outputs) of inputs of any shape (batch, ...)."""
        return cast(Tensor, self.head(self.layers(inputs.flatten(1))))


def _linear(fan_in: int, fan_out: int, *, variance: float, bias: bool) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out, bias=bias)
    nn.init.normal_(layer.weight, std=math.sqrt(variance / fan_in))
    if bias:
        nn.init.normal_(layer.bias, std=BIAS_STD)
    return layer


def build(config: Config, *, sample_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Build a plain net of ``depth`` hidden layers of ``units`` units."""
    return Plain(
        math.prod(sample_shape),
        cast(int, config.units),
        n_outputs,
        depth=cast(int, config.depth),
        activation=config.activation,
        batch_norm=config.batch_norm,
        gain=config.gain,
        bias=config.bias,
    )
