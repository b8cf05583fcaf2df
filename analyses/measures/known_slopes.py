"""Slopes of plain nets that are known before any run: the controls of the depth slopes.

In wide random nets the gradient of a layer's output changes by one factor a layer, so the slope of
its logarithm toward the output is known: 0 for ReLU with He initialisation, -ln(gain) for gain
times that, -ln sqrt(pi / (pi - 1)) = -0.19 for ReLU and batch norm (arXiv 1902.08129, section 4),
and -ln sqrt(chi) for tanh, with chi = gain^2 E[tanh'(sqrt(q) z)^2] at the fixed point
q = gain^2 E[tanh(sqrt(q) z)^2] + bias^2 (arXiv 1611.01232, equations 3 and 6).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import UsageError
from gradscope.experiments.models.plain import BIAS_STD

TOLERANCE = 0.02
"""Nat a layer by which a measured mean may miss the slope of infinite width."""
_Z, _WEIGHT = np.polynomial.hermite_e.hermegauss(61)


def known_slope(config: Mapping[str, Any]) -> float:
    """Return the slope of ln output_grad over depth, in nat a layer toward the output.

    Parameters
    ----------
    config : mapping
        ``activation``, ``batch_norm``, ``gain`` and ``bias`` of a plain net.

    Raises
    ------
    UsageError
        For tanh with batch norm and for ReLU with biases, whose slopes are not written down here.

    Examples
    --------
    >>> relu = {"activation": "relu", "batch_norm": False, "gain": 0.8, "bias": False}
    >>> round(known_slope(relu), 3), round(known_slope({**relu, "batch_norm": True}), 3)
    (0.223, -0.191)
    """
    is_relu, gain = config["activation"] == "relu", float(config["gain"])
    if is_relu and config["batch_norm"]:
        return -0.5 * math.log(math.pi / (math.pi - 1))
    if is_relu and not config["bias"]:
        return 0.0 - math.log(gain)
    if not is_relu and not config["batch_norm"]:
        return -0.5 * math.log(tanh_chi(gain, BIAS_STD if config["bias"] else 0.0))
    raise UsageError("no slope is known of tanh with batch norm, nor of ReLU with biases")


def tanh_chi(gain: float, bias: float) -> float:
    """Return the factor on squared gradients from layer to layer toward the input, for tanh."""
    q = 1.0
    for _ in range(500):
        q = gain**2 * _gaussian(lambda h: np.tanh(h) ** 2, q) + bias**2
    return gain**2 * _gaussian(lambda h: np.cosh(h) ** -4.0, q)


def _gaussian(function: Callable[[NDArray[np.float64]], NDArray[np.float64]], q: float) -> float:
    """E[f(sqrt(q) z)], z standard normal, by Gauss-Hermite quadrature."""
    return float(_WEIGHT @ function(math.sqrt(q) * _Z) / _WEIGHT.sum())


def control_name(config: Mapping[str, Any]) -> str:
    """Name a plain net in a figure: ``ReLU, batch norm`` or ``ReLU, 0.8 × He``."""
    if config["batch_norm"]:
        return "ReLU, batch norm"
    if config["activation"] == "relu":
        return "ReLU, He" if config["gain"] == 1 else f"ReLU, {config['gain']:g} × He"
    return f"tanh, gain {config['gain']:g}{', bias' if config['bias'] else ''}"
