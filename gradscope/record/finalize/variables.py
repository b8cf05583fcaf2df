"""From raw sums to the variables of the schema, on the host, for many rows at once."""

from __future__ import annotations

import numpy as np

from gradscope.record.measure.reference.sums import (
    GRAD_LOG2_COUNTS,
    LAYER_SUMS,
    MOMENT_LOG2_COUNTS,
    PARAM_SUMS,
)
from gradscope.record.rows.kind import Variables


def _columns(raw: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {name: raw[..., index] for index, name in enumerate(names)}


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; NaN where the denominator is zero or missing."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def as_counts(values: np.ndarray) -> np.ndarray:
    """Whole numbers; -1 where missing."""
    return np.where(np.isnan(values), -1, values).astype(np.int64)


def finish_gradients(raw: np.ndarray, numel: np.ndarray) -> Variables:
    """Compute ``/gradients`` from raw sums.

    Parameters
    ----------
    raw : array, float64, (row, param, len(PARAM_SUMS))
    numel : array, int, (param,)
    """
    c = _columns(raw, PARAM_SUMS)
    n = numel - c["grad_n_nonfinite"]
    square = c["grad_square_sum"]
    return {
        "grad_norm": np.where(n == 0, np.nan, np.sqrt(square)),
        "grad_mean": _ratio(c["grad_sum"], n),
        "grad_abs_mean": _ratio(c["grad_abs_sum"], n),
        "grad_abs_max": np.where(n == 0, np.nan, c["grad_abs_max"]),
        "grad_kurtosis": _ratio(_ratio(c["grad_fourth_sum"], square) * n, square),
        "grad_zero_fraction": _ratio(c["grad_n_zero"], n),
        "grad_nonfinite": as_counts(c["grad_n_nonfinite"]),
        "grad_param_cosine": _cosine(c["grad_param_dot"], square, c["param_square_sum"]),
    }


def _cosine(dot: np.ndarray, square_a: np.ndarray, square_b: np.ndarray) -> np.ndarray:
    return _ratio(dot, np.sqrt(square_a) * np.sqrt(square_b))


def finish_second_moments(
    raw: np.ndarray, numel: np.ndarray, beta1: np.ndarray, beta2: np.ndarray
) -> Variables:
    """Compute ``/second_moments`` from raw sums.

    Parameters
    ----------
    raw : array, float64, (row, param, len(PARAM_SUMS))
    numel : array, int, (param,)
    beta1, beta2 : array, float64, (row, param)
        0 where the moments are averages that need no bias correction, NaN where they are no
        averages at all: ``signal_fraction`` is missing there.
    """
    c = _columns(raw, PARAM_SUMS)
    n = numel - c["moment_n_nonfinite"]
    positive = n - c["moment_n_zero"]
    log_mean = _ratio(c["moment_log_sum"], positive)
    log_var = _ratio(c["moment_log_square_sum"], positive) - log_mean**2
    step = c["state_step"]
    m_hat_square = c["exp_avg_square_sum"] / (1 - beta1**step) ** 2
    v_hat_sum = c["moment_sum"] / (1 - beta2**step)
    return {
        "exp_avg_sq_mean": _ratio(c["moment_sum"], n),
        "exp_avg_sq_max": np.where(n == 0, np.nan, c["moment_max"]),
        "log_exp_avg_sq_mean": log_mean,
        "log_exp_avg_sq_var": np.maximum(log_var, 0.0),
        "exp_avg_sq_zero_fraction": _ratio(c["moment_n_zero"], n),
        "exp_avg_norm": np.where(n == 0, np.nan, np.sqrt(c["exp_avg_square_sum"])),
        "signal_fraction": _ratio(m_hat_square, v_hat_sum),
        "epsilon_fraction": _ratio(c["moment_n_epsilon"], n),
        "state_step": as_counts(step),
    }


def finish_updates(raw: np.ndarray, numel: np.ndarray) -> Variables:
    """Compute ``/updates`` from raw sums.

    Sums run over finite entries; those over none are missing. On an accelerator a sum of zero
    beside a gradient without finite entries says so too: a parameter that is NaN, not zero.

    Parameters
    ----------
    raw : array, float64, (row, param, len(PARAM_SUMS))
    numel : array, int, (param,)
    """
    c = _columns(raw, PARAM_SUMS)
    is_lost = c["grad_n_nonfinite"] >= np.maximum(numel, 1)
    is_empty = numel == 0
    square = np.where(
        (is_lost & (c["update_square_sum"] == 0)) | is_empty, np.nan, c["update_square_sum"]
    )
    param_square = np.where(is_lost & (c["param_square_sum"] == 0), np.nan, c["param_square_sum"])
    measured = ~np.isnan(c["update_param_dot"])
    return {
        "update_norm": np.sqrt(square),
        "param_norm": np.where(measured & ~is_empty, np.sqrt(param_square), np.nan),
        "update_grad_cosine": _cosine(c["update_grad_dot"], square, c["grad_square_sum"]),
        "update_param_cosine": _cosine(c["update_param_dot"], square, c["param_square_sum"]),
        "descent": np.where(is_lost | is_empty, np.nan, -c["update_grad_dot"]),
    }


def finish_activations(raw: np.ndarray, scale: np.ndarray) -> Variables:
    """Compute ``/activations`` from raw sums.

    Parameters
    ----------
    raw : array, float64, (row, layer, len(LAYER_SUMS))
    scale : array, float64, (row,)
        What the loss was multiplied by before backward: the scaler's scale times the number of
        ranks whose gradients are averaged.
    """
    c = _columns(raw, LAYER_SUMS)
    scale = scale[:, None]
    out, grad = (
        {k: c[f"{what}_{k}"] for k in ("sum", "square_sum", "abs_max", "n_zero", "numel")}
        for what in ("output", "output_grad")
    )
    n_out = out["numel"] - c["output_n_nonfinite"]
    n_grad = grad["numel"] - c["output_grad_n_nonfinite"]
    return {
        "output_mean": _ratio(out["sum"], n_out),
        "output_rms": np.sqrt(_ratio(out["square_sum"], n_out)),
        "output_abs_max": np.where(n_out > 0, out["abs_max"], np.nan),
        "output_zero_fraction": _ratio(out["n_zero"], n_out),
        "output_numel": np.where(out["numel"] > 0, out["numel"], -1).astype(np.int64),
        "output_grad_rms": np.sqrt(_ratio(grad["square_sum"], n_grad)) / scale,
        "output_grad_abs_max": np.where(n_grad > 0, grad["abs_max"], np.nan) / scale,
        "output_grad_zero_fraction": _ratio(grad["n_zero"], n_grad),
    }


def finish_histograms(raw: np.ndarray, grad_scale: np.ndarray) -> Variables:
    """Compute ``/histograms`` from octave counts.

    Parameters
    ----------
    raw : array, float64, (row, param, MOMENT_LOG2_COUNTS.stop)
        `measures.log2_counts` of gradient and second moment.
    grad_scale : array, float64, (row,)
        What the gradients were still multiplied by; a power of two moves the octaves, with any
        other scale they are missing.
    """
    rows = {}
    for prefix, columns in (("grad", GRAD_LOG2_COUNTS), ("exp_avg_sq", MOMENT_LOG2_COUNTS)):
        counts = raw[..., columns]
        if prefix == "grad":
            counts = _shift_octaves(counts, grad_scale)
        rows[f"{prefix}_histogram"] = as_counts(counts[..., :-4])
        for i, kind in enumerate(("zero", "under", "over", "nonfinite")):
            rows[f"{prefix}_histogram_{kind}"] = as_counts(counts[..., i - 4])
    return rows


def _shift_octaves(counts: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Move counts down by log2(scale) octaves; what leaves the range is "under"."""
    if (scale == 1).all():
        return counts
    moved = np.full_like(counts, np.nan)
    for row, (before, shift) in enumerate(zip(counts, np.log2(scale), strict=True)):
        if shift != round(shift) or shift < 0:
            continue
        n = min(int(shift), before.shape[-1] - 4)
        moved[row] = np.roll(before, -n, axis=-1)
        moved[row, :, -4 - n :] = 0.0
        moved[row, :, -4:] = before[:, -4:]
        moved[row, :, -3] += before[:, :n].sum(axis=-1)
    return moved


def finish_noise(
    raw: np.ndarray, n: np.ndarray, batch_size: np.ndarray, scale: np.ndarray, factor: np.ndarray
) -> Variables:
    """Compute ``/noise``: the simple noise scale of arXiv 1812.06162, appendix A.1, by parameter.

    With b the size of a micro-batch and B = n b of the batch, unbiased estimates are
    ``|G|^2 = (B |g_B|^2 - b |g_b|^2) / (B - b)`` and
    ``tr Sigma = (|g_b|^2 - |g_B|^2) / (1/b - 1/B)``; their ratio is the noise
    scale, and noisy itself: take its median over steps.

    Parameters
    ----------
    raw : array, float64, (row, param, 2)
        Sum over micro-batches of the squared norm of what each added to the gradient, and the
        squared norm of the sum.
    n, batch_size : array, float64, (row,)
    scale : array, float64, (row,)
        Loss scale, still in what the micro-batches added.
    factor : array, float64, (row,)
        What the summed gradient was multiplied by beside it: clipping, and the scale again where
        the optimizer unscales.
    """
    n, batch_size, scale, factor = (x[:, None] for x in (n, batch_size, scale, factor))
    small = _ratio(raw[..., 0] * n, scale**2)  # n * added = gradient of the micro-batch's mean loss
    big = _ratio(raw[..., 1], factor**2)
    b = _ratio(batch_size, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        signal = (batch_size * big - b * small) / (batch_size - b)
        noise = (small - big) / (1 / b - 1 / batch_size)
    is_known = (n > 1) & np.isfinite(signal)
    return {
        "microbatch_grad_sq": np.where(n > 1, small, np.nan),
        "noise_scale": np.where(is_known & (signal != 0), _signed_ratio(noise, signal), np.nan),
    }


def _signed_ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: np.ndarray = numerator / denominator
    return ratio


def total_grad_norm(raw: np.ndarray, numel: np.ndarray, clip_factor: np.ndarray) -> np.ndarray:
    """Norm over all parameters before clipping (row,); NaN for rows without finite gradients."""
    c = _columns(raw, PARAM_SUMS)
    square = np.where(numel > c["grad_n_nonfinite"], c["grad_square_sum"], np.nan)
    has_any = ~np.isnan(square).all(axis=1)
    norm = np.sqrt(np.where(np.isnan(square), 0.0, square).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):  # an infinite norm is clipped by 0
        return np.where(has_any, norm / clip_factor, np.nan)
