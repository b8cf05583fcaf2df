"""What the recorder knows of each step beside what it writes, on the host."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

FACTS = (
    "has_loss",
    "grad_scale",
    "noise_parts",
    "is_recorded",
    "is_clip_unknown",
    "follows_gap",
)
"""Facts that are one number a step."""
GROUP_FACTS = ("bias_beta1", "bias_beta2")
"""Facts that are one number a parameter group."""


@dataclass(frozen=True, eq=False)
class StepFacts:
    """Facts of several steps, one entry a row; NaN where a fact does not apply.

    Parameters
    ----------
    step : array, int, (row,)
    has_loss : array, float64, (row,)
        1 where a loss was logged.
    grad_scale : array, float64, (row,)
        What the gradients of a fused optimizer were still multiplied by when they were measured.
    noise_parts : array, float64, (row,)
        Number of micro-batches, where they were equally large and each had a pass of its own.
    is_recorded : array, float64, (row,)
        1 where the cadence takes the step; the others are there for the flight recorder.
    is_clip_unknown : array, float64, (row,)
        1 where gradients were clipped, but not all by one factor.
    follows_gap : array, float64, (row,)
        1 where steps may have been taken unseen since the row before.
    bias_beta1, bias_beta2 : array, float64, (row, param_group)
        Decay rates for the bias correction of the moments: 0 for averages that need none, NaN for
        a momentum that is no average.
    loss_scale, clip_coefficient, is_skipped, n_microbatches, batch_size : array, float64, (row,)
        As they are written to ``/training``.
    """

    step: np.ndarray
    has_loss: np.ndarray
    grad_scale: np.ndarray
    noise_parts: np.ndarray
    is_recorded: np.ndarray
    is_clip_unknown: np.ndarray
    follows_gap: np.ndarray
    bias_beta1: np.ndarray
    bias_beta2: np.ndarray
    loss_scale: np.ndarray
    clip_coefficient: np.ndarray
    is_skipped: np.ndarray
    n_microbatches: np.ndarray
    batch_size: np.ndarray

    def at(self, steps: np.ndarray) -> StepFacts:
        """Return the facts of some of the steps, in their order."""
        rows = np.searchsorted(self.step, steps)
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: column[rows] for name, column in columns.items()})

    @property
    def skipped(self) -> np.ndarray:
        """Whether a gradient scaler skipped the step: bool, (row,)."""
        return self.is_skipped > 0

    @property
    def clip_factor(self) -> np.ndarray:
        """Factor of gradient clipping: 1 without clipping, NaN where there is no one factor."""
        factor = or_else(self.clip_coefficient, 1.0)
        return np.where(self.is_clip_unknown == 1, np.nan, factor)

    @property
    def unscaling(self) -> np.ndarray:
        """``grad_scale``, 1 where gradients were not scaled."""
        return or_else(self.grad_scale, 1.0)


def or_else(values: np.ndarray, default: float) -> np.ndarray:
    """Replace what is missing."""
    return np.where(np.isnan(values), default, values)
