"""Parameters that something other than the optimizer's step has changed.

With theta the parameter before a step and u the update, the norm before the next step must be that
of theta + u: ``|theta|^2 + 2 <u, theta> + |u|^2``. All three are raw sums of every measured step,
so that weights which a wrapper pulls back, a loop clamps or an average replaces are found without
reading them again.
"""

from __future__ import annotations

import numpy as np

from gradscope.record.measure.reference.sums import PARAM_SUMS
from gradscope.record.rows.facts import StepFacts

TOLERANCE = 1e-5
"""Relative error of a squared norm that sums over float32 entries stay well below."""
_THETA, _DOT, _UPDATE, _NONFINITE = (
    PARAM_SUMS.index(name)
    for name in ("param_square_sum", "update_param_dot", "update_square_sum", "grad_n_nonfinite")
)


class OutsideChanges:
    """Compares each parameter before a step with what the step before left.

    Parameters
    ----------
    names : list of str
        Names of the parameters.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._expected = np.full(len(names), np.nan)
        self._allowed = np.full(len(names), np.nan)
        self._last_step = -1
        self.found: tuple[int, str] | None = None
        """First step whose parameters were not those that the step before left, and a name."""

    def observe(self, steps: np.ndarray, raw: np.ndarray, facts: StepFacts) -> None:
        """Take in raw rows (row, param, len(PARAM_SUMS)) of rising steps, and their facts."""
        if self.found is not None:
            return
        for step, row, gap in zip(steps.tolist(), raw, facts.follows_gap == 1, strict=True):
            if gap or step != self._last_step + 1:
                self._expected[:] = np.nan
            self._last_step = step
            with np.errstate(all="ignore"):
                is_changed = np.abs(row[:, _THETA] - self._expected) > self._allowed
            if is_changed.any():
                self.found = step, self._names[int(np.flatnonzero(is_changed)[0])]
                return
            self._expect(row)

    def _expect(self, row: np.ndarray) -> None:
        stepped = ~np.isnan(row[:, _THETA])
        after = row[:, _THETA] + 2 * row[:, _DOT] + row[:, _UPDATE]
        after[row[:, _NONFINITE] > 0] = np.nan
        self._expected = np.where(stepped, after, self._expected)
        allowed = TOLERANCE * (row[:, _THETA] + row[:, _UPDATE])
        self._allowed = np.where(stepped, allowed, self._allowed)
