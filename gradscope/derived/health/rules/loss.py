"""The loss curve, and rules about diverging and stalling losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradscope.derived.health.rule import Rule, Sign
from gradscope.derived.health.run_data import Array, RecordedRun, median

MIN_ROWS = 20
RISE = 0.2
NOISES = 5.0
STALL_ROWS = 100
STALL_FALL = 0.02
MAX_FLIPS = 0.1


@dataclass(frozen=True)
class LossCurve:
    """Summary of a training loss by robust statistics; levels are medians."""

    steps: Array
    values: Array

    @property
    def start(self) -> float:
        """Level of the first three rows, or of the first tenth where that is higher.

        A noisy loss may be low in its first rows by chance.
        """
        n = max(3, len(self.values) // 10)
        return max(float(median(self.values[:3])), float(median(self.values[:n])))

    @property
    def end(self) -> float:
        """Level of the last tenth, at least five rows."""
        return float(median(self.values[-max(5, len(self.values) // 10) :]))

    @property
    def peak(self) -> float:
        """Highest value after the first."""
        return float(self.values[1:].max()) if len(self.values) > 1 else self.start

    @property
    def noise(self) -> float:
        """Standard deviation from row to row, by the median absolute difference."""
        if len(self.values) < MIN_ROWS:
            return 0.0
        # Differences of white noise have sqrt(2) its deviation; 1.4826 is the normal factor.
        return float(1.4826 * median(np.abs(np.diff(self.values))) / np.sqrt(2))

    @property
    def scale(self) -> float:
        """Scale for relative falls and rises."""
        return max(abs(self.start), abs(self.end))

    @property
    def fall(self) -> float:
        """Relative fall of the loss; negative if it rose."""
        return (self.start - self.end) / self.scale if self.scale > 0 else 0.0


def loss_curve(run: RecordedRun, min_rows: int = 1) -> LossCurve | None:
    """Return the whole loss curve; None if there is none, or if its level says nothing.

    It says nothing where several optimizers alternate, or where the loss changes its sign in more
    than the share `MAX_FLIPS` of the rows, as that of a policy gradient does.
    """
    loss, steps = run.loss, run.all_steps
    if loss is None or run.n_optimizers > 1:
        return None
    is_known = np.isfinite(loss)
    if is_known.sum() < min_rows:
        return None
    known = loss[is_known]
    if len(known) >= MIN_ROWS and np.mean(np.diff(np.sign(known)) != 0) > MAX_FLIPS:
        return None
    return LossCurve(steps[is_known], known)


def check_diverged(run: RecordedRun) -> list[Sign]:
    """Find a loss that ends above its beginning."""
    curve = loss_curve(run, 2)
    if curve is None or not run.is_from_start:
        return []
    last = int(curve.steps[-1])
    words = f"the loss went from {curve.values[0]:.4g} at step {curve.steps[0]}"
    if run.attrs.get("status") == "diverged":
        end = f"to {curve.values[-1]:.4g} at step {last:,}, where the run ended as diverged"
        return [Sign("error", f"{words} {end}", (), None, last)]
    margin = max(RISE * abs(curve.values[0]), NOISES * curve.noise)
    if len(curve.values) < MIN_ROWS or curve.end <= curve.values[0] + margin:
        return []
    return [Sign("error", f"{words} to {curve.end:.4g} at step {last:,}", (), None, last)]


def check_stalled(run: RecordedRun) -> list[Sign]:
    """Find a loss that does not fall."""
    curve = loss_curve(run, STALL_ROWS)
    if curve is None or not run.is_from_start or check_diverged(run) or curve.fall >= STALL_FALL:
        return []
    message = (
        f"the loss was {curve.start:.4g} in the first steps and is {curve.end:.4g} after "
        f"{curve.steps[-1]:,}"
    )
    return [Sign("warning", message, (), int(curve.steps[0]), int(curve.steps[-1]))]


DIVERGED = Rule(
    name="diverged loss",
    formula="the median loss of the last tenth exceeds the first loss by the fraction rise and by "
    "noises standard deviations of its change from row to row; or the status of the run is "
    "diverged",
    thresholds={"rise": RISE, "noises": NOISES},
    advice="lower the learning rate tenfold, then look at what the other findings say",
    check=check_diverged,
    explains=("stalled loss",),
)
STALLED = Rule(
    name="stalled loss",
    formula="over rows rows or more, the median loss of the last tenth is less than the fraction "
    "fall below that of the first three or of the first tenth; no loss that changes its sign in "
    "more than the fraction flips of the rows",
    thresholds={"rows": STALL_ROWS, "fall": STALL_FALL, "flips": MAX_FLIPS},
    advice="let it learn one batch by heart; if it cannot, look for labels, data or loss that are "
    "wrong, then try learning rates a factor of ten apart",
    check=check_stalled,
)

RULES = (DIVERGED, STALLED)
