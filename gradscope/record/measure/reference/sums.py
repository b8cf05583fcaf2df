"""Pure functions from tensors to raw sums: the reference that every fast kernel is tested against.

A recorded variable is computed in two steps. Here, on the device, tensors become a few *raw sums*
in float64 that add over chunks, ranks and micro-batches (maxima aside); `finish` turns raw sums
into the variables of the schema, on the host. Sums run over finite entries. Of complex tensors,
magnitudes count: ``|z|`` for absolute values and squares, ``Re conj(a) b`` for products; sums that
have no real value are missing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradscope import schema

GRADIENT_SUMS = (
    "grad_sum",
    "grad_abs_sum",
    "grad_square_sum",
    "grad_fourth_sum",
    "grad_abs_max",
    "grad_n_zero",
    "grad_n_nonfinite",
    "grad_param_dot",
    "param_square_sum",
)
UPDATE_SUMS = ("update_square_sum", "update_grad_dot", "update_param_dot")
MOMENT_SUMS = (
    "moment_sum",
    "moment_max",
    "moment_log_sum",
    "moment_log_square_sum",
    "moment_n_zero",
    "moment_n_nonfinite",
    "moment_n_epsilon",
    "exp_avg_square_sum",
)
PARAM_SUMS = (*GRADIENT_SUMS, *UPDATE_SUMS, *MOMENT_SUMS, "state_step")
OUTPUT_SUMS = ("sum", "square_sum", "abs_max", "n_zero", "n_nonfinite", "numel")
LAYER_SUMS = tuple(f"{what}_{name}" for what in ("output", "output_grad") for name in OUTPUT_SUMS)
GRAD_LOG2_COUNTS = slice(0, schema.GRAD_BIN_RANGE[1] - schema.GRAD_BIN_RANGE[0] + 5)
MOMENT_LOG2_COUNTS = slice(
    GRAD_LOG2_COUNTS.stop,
    GRAD_LOG2_COUNTS.stop + schema.MOMENT_BIN_RANGE[1] - schema.MOMENT_BIN_RANGE[0] + 5,
)
"""Where `log2_counts` of gradient and second moment stand in a row of histograms."""
MAXIMA = frozenset({"grad_abs_max", "moment_max", "output_abs_max", "output_grad_abs_max"})
"""Raw numbers that combine by maximum; all others add."""

GRADIENT = slice(0, len(GRADIENT_SUMS))
UPDATE = slice(GRADIENT.stop, GRADIENT.stop + len(UPDATE_SUMS))
MOMENT = slice(UPDATE.stop, UPDATE.stop + len(MOMENT_SUMS))
STATE_STEP = MOMENT.stop
OUTPUT = slice(0, len(OUTPUT_SUMS))
OUTPUT_GRAD = slice(OUTPUT.stop, 2 * OUTPUT.stop)


def _finite(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values in float64, zero where not finite, and the mask of finite ones."""
    values = _double(tensor.detach())
    finite = torch.isfinite(values)
    return torch.where(finite, values, 0.0), finite


def _double(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128) if tensor.is_complex() else tensor.double()


def _square(values: Tensor) -> Tensor:
    if values.is_complex():
        return values.real * values.real + values.imag * values.imag
    return values * values


def _dot(a: Tensor, b: Tensor) -> Tensor:
    if a.is_complex() or b.is_complex():
        return (a.conj() * b).real.sum()
    return (a * b).sum()


def _sum(values: Tensor) -> Tensor:
    if values.is_complex():
        return torch.full((), torch.nan, dtype=torch.float64, device=values.device)
    return values.sum()


def gradient_sums(grad: Tensor, param: Tensor) -> Tensor:
    """Sum a gradient and its parameter before the step.

    Parameters
    ----------
    grad, param : Tensor, same shape, any floating dtype

    Returns
    -------
    Tensor, float64, (9,)
        In the order of `GRADIENT_SUMS`.
    """
    g, finite = _finite(grad)
    theta, _ = _finite(param)
    magnitude, square = g.abs(), _square(g)
    return torch.stack(
        [
            _sum(g),
            magnitude.sum(),
            square.sum(),
            (square * square).sum(),
            _max(magnitude),
            (finite & (g == 0)).sum(),
            (~finite).sum(),
            _dot(g, theta),
            _square(theta).sum(),
        ]
    )


def update_sums(before: Tensor, after: Tensor, grad: Tensor) -> Tensor:
    """Sum the measured update ``after - before``, in the order of `UPDATE_SUMS`; float64, (3,)."""
    theta, _ = _finite(before)
    u, _ = _finite(_double(after.detach()) - _double(before.detach()))
    g, _ = _finite(grad)
    return torch.stack([_square(u).sum(), _dot(u, g), _dot(u, theta)])


def moment_sums(
    exp_avg_sq: Tensor, exp_avg: Tensor | None, epsilon_below: Tensor, epsilon_above: Tensor
) -> Tensor:
    """Sum the optimizer's moments, in the order of `MOMENT_SUMS`; float64, (8,).

    Parameters
    ----------
    exp_avg_sq, exp_avg : Tensor, any shape
    epsilon_below, epsilon_above : Tensor, float64, ()
        Entries with v at or beyond these count as dominated by epsilon (`EpsilonEdges`).
    """
    v, finite = _finite(exp_avg_sq)
    positive = v > 0
    log = torch.where(positive, v, 1.0).log()
    small = finite & ((v <= epsilon_below) | (v >= epsilon_above))
    m_square = torch.full((), torch.nan, device=v.device, dtype=v.dtype)
    if exp_avg is not None:
        m, _ = _finite(exp_avg)
        m_square = (m * m).sum()
    return torch.stack(
        [
            v.sum(),
            _max(v),
            log.sum(),
            (log * log).sum(),
            (finite & (v == 0)).sum(),
            (~finite).sum(),
            small.sum(),
            m_square,
        ]
    )


def output_sums(tensor: Tensor) -> Tensor:
    """Sum a layer's output or its gradient, in the order of `OUTPUT_SUMS`; float64, (6,)."""
    y, finite = _finite(tensor)
    numel = torch.tensor(float(y.numel()), device=y.device, dtype=torch.float64)
    return torch.stack(
        [
            _sum(y),
            _square(y).sum(),
            _max(y.abs()),
            (finite & (y == 0)).sum(),
            (~finite).sum(),
            numel,
        ]
    )


def log2_counts(tensor: Tensor, bins: tuple[int, int]) -> Tensor:
    """Count entries by the power of two below their magnitude.

    Parameters
    ----------
    tensor : Tensor, any shape
    bins : (first, last)
        Bins b with 2**b <= abs(x) < 2**(b + 1), both ends included.

    Returns
    -------
    Tensor, float64, (last - first + 5,)
        The bins, then how many are zero, under, over and not finite.
    """
    first, last = bins
    values = _double(tensor.detach()).abs().flatten()
    finite = values[torch.isfinite(values)]
    nonzero = finite[finite > 0]
    power = torch.frexp(nonzero)[1].long() - 1
    inside = (power >= first) & (power <= last)
    counts = torch.bincount(power[inside] - first, minlength=last - first + 1)
    outside = [
        finite.numel() - nonzero.numel(),
        (power < first).sum(),
        (power > last).sum(),
        values.numel() - finite.numel(),
    ]
    tail = torch.stack([torch.as_tensor(n, device=tensor.device) for n in outside])
    return torch.cat([counts, tail]).double()


def _max(values: Tensor) -> Tensor:
    return values.max() if values.numel() else values.new_zeros(())


def add_output(tensor: Tensor, sums: Tensor) -> None:
    """Add the sums of one more call or micro-batch to a row of `OUTPUT_SUMS`, in place."""
    combine_outputs(sums, output_sums(tensor).to(sums.device, non_blocking=True))


def combine_outputs(into: Tensor, other: Tensor) -> None:
    """Combine rows of `OUTPUT_SUMS` (..., 6) in place: maxima by maximum, all else by addition."""
    peak = torch.maximum(into[..., 2], other[..., 2])
    into += other
    into[..., 2] = peak


class EpsilonEdges:
    """The second moments at which epsilon reaches a tenth of the denominator.

    Parameters
    ----------
    alpha, beta2, eps : Tensor, float64, (n_param,)
        beta2 is 0 where the moments are not bias-corrected.
    """

    def __init__(self, alpha: Tensor, beta2: Tensor, eps: Tensor) -> None:
        everywhere = torch.where(10.0 * eps >= 1.0, torch.inf, -1.0)
        self._v_hat, self._beta2 = (10.0 * eps) ** (1.0 / alpha), beta2
        self._is_below, self._below = alpha > 0, torch.where(alpha == 0, everywhere, -1.0)
        self._is_above, self._above = alpha < 0, torch.full_like(alpha, torch.inf)

    def at(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return the edges of v after a number of steps.

        ``eps >= 0.1 * v_hat**alpha`` holds for v at or below the first result when alpha > 0, at or
        above the second when alpha < 0, and nowhere when alpha is 0 and eps < 0.1.

        Parameters
        ----------
        step : Tensor, float64, (n_param,)

        Returns
        -------
        below, above : Tensor, float64, (n_param,)
        """
        v = self._v_hat * (1.0 - self._beta2**step)
        return (
            torch.where(self._is_below, v, self._below),
            torch.where(self._is_above, v, self._above),
        )
