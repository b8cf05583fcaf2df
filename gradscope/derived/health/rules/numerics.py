"""Rules about non-finite values, fp16 overflow and gradient blow-up."""

from __future__ import annotations

import numpy as np

from gradscope.derived.health.rule import Rule, Sign
from gradscope.derived.health.run_data import Array, RecordedRun, name_some

SKIPPED_SHARE = 0.05
MIN_SKIPPED = 3
CALIBRATION_STEPS = 20
LOST_SHARE = 0.9
MIN_LOSS_SCALE = 1.0
BLOW_UP = 1e3
FIRST_STEPS = 10


def check_nonfinite(run: RecordedRun) -> list[Sign]:
    """Find infinite losses, losses that end in NaN, and gradients that are not finite."""
    return _nonfinite_loss(run) + _nonfinite_gradients(run)


def _nonfinite_loss(run: RecordedRun) -> list[Sign]:
    loss, steps = run.values("training", "loss", "all"), run.steps("training", "all")
    if loss is None:
        return []
    if np.isinf(loss).any():
        at = steps[np.isinf(loss)]
        message = f"the loss was infinite in {len(at)} of {len(loss)} steps"
        return [Sign("error", message, (), int(at[0]), int(at[-1]))]
    known = np.flatnonzero(~np.isnan(loss))
    if not len(known):
        return []
    # A loss that is not logged at every step has gaps. Only a longer gap at the end shows a NaN
    # loss.
    longest_gap = int(np.diff(known).max(initial=1)) - 1
    n_missing = len(loss) - 1 - int(known[-1])
    if n_missing <= 2 * longest_gap:
        return []
    first = int(steps[known[-1] + 1])
    return [
        Sign(
            "error", f"the loss is NaN or missing from step {first:,} on", (), first, int(steps[-1])
        )
    ]


def _nonfinite_gradients(run: RecordedRun) -> list[Sign]:
    counts, names = (
        run.values("gradients", "grad_nonfinite", "all"),
        run.coordinate("gradients", "param"),
    )
    if counts is None or names is None:
        return []
    steps = run.steps("gradients", "all")
    # A step that the loss scaler skips has such gradients on purpose.
    is_bad = (counts > 0) & ~np.isin(steps, _skipped_steps(run))[:, None]
    rows, params = np.flatnonzero(is_bad.any(axis=1)), np.flatnonzero(is_bad.any(axis=0))
    if not len(rows):
        return []
    layers = tuple(str(names[place]) for place in params)
    message = f"non-finite gradients in {len(rows)} steps, in {name_some(list(layers))}"
    origin = run.attrs.get("first_nonfinite_layer", "")
    if isinstance(origin, str) and origin and run.window is None:
        message += f"; first, nearest to the loss, in {origin}"
    return [Sign("error", message, layers, int(steps[rows[0]]), int(steps[rows[-1]]))]


def _skipped_steps(run: RecordedRun) -> Array:
    skipped = run.values("training", "is_skipped", "all")
    steps = run.steps("training", "all")
    return steps[:0] if skipped is None else steps[skipped == 1]


def check_overflow(run: RecordedRun) -> list[Sign]:
    """Find steps that the loss scaler keeps skipping, or a loss scale that fell below 1."""
    skipped, steps = run.values("training", "is_skipped", "all"), run.steps("training", "all")
    if skipped is None:
        return []
    is_late = steps > CALIBRATION_STEPS
    is_skipped = (skipped == 1) & is_late
    n_skipped, share = int(is_skipped.sum()), float(is_skipped.sum() / max(is_late.sum(), 1))
    parts = []
    if n_skipped >= MIN_SKIPPED and share > SKIPPED_SHARE:
        parts.append(f"{share:.0%} of the steps from {steps[is_late][0]:,} on were skipped")
    scale = run.values("training", "loss_scale", "all")
    known = scale[~np.isnan(scale)] if scale is not None else np.zeros(0)
    if len(known) and known[-1] < MIN_LOSS_SCALE and n_skipped:
        parts.append(f"the loss scale fell to {known[-1]:.3g}")
    if not parts:
        return []
    at = steps[is_skipped]
    recent = skipped[-CALIBRATION_STEPS:] == 1
    is_lost = len(recent) == CALIBRATION_STEPS and recent.mean() >= LOST_SHARE
    severity = "error" if is_lost else "warning"
    return [Sign(severity, " and ".join(parts), (), int(at[0]), int(at[-1]))]


def check_blow_up(run: RecordedRun) -> list[Sign]:
    """Find gradients that became far larger than they were at the beginning."""
    norm, first = (run.values("training", "total_grad_norm", rows) for rows in ("all", "first"))
    if norm is None or first is None or not run.is_from_start:
        return []
    steps = run.steps("training", "all")
    finite = np.where(np.isfinite(norm), norm, 0.0)
    is_first = run.steps("training", "first") <= FIRST_STEPS
    usual, place = np.nan_to_num(first[is_first], posinf=np.inf).max(), int(finite.argmax())
    if not usual > 0 or finite[place] < BLOW_UP * usual:
        return []
    message = (
        f"the gradient norm came to {finite[place]:.3g} at step {steps[place]:,}, "
        f"{finite[place] / usual:.2g} times the highest of the first {FIRST_STEPS} steps"
    )
    return [Sign("warning", message, (), int(steps[place]), int(steps[place]))]


NONFINITE = Rule(
    name="non-finite values",
    formula="the loss is infinite, or is missing at the end for longer than between any two "
    "logged values; or grad_nonfinite is above 0 in a step that no loss scaler skipped",
    advice="look at the first layer named; lower the learning rate, clip, or compute it in float32",
    check=check_nonfinite,
)
OVERFLOW = Rule(
    name="fp16 overflow",
    formula="is_skipped in more than the fraction share of the steps after step calibration, and "
    "in at least count steps; or the last loss_scale is below scale. An error if the fraction "
    "lost of the last 20 steps was skipped",
    thresholds={
        "share": SKIPPED_SHARE,
        "calibration": CALIBRATION_STEPS,
        "count": MIN_SKIPPED,
        "scale": MIN_LOSS_SCALE,
        "lost": LOST_SHARE,
    },
    advice="use bfloat16, or keep the layer that overflows and the loss in float32",
    check=check_overflow,
    explains=(
        "non-finite values",
        "diverged loss",
        "stalled loss",
        "exploding gradients",
        "frozen layer",
        "learning rate too low",
    ),
)
BLOWN_UP = Rule(
    name="gradient blow-up",
    formula="total_grad_norm reaches factor times its maximum over the first 10 steps",
    thresholds={"factor": BLOW_UP},
    advice="clip the gradient norm at a few times its usual size",
    check=check_blow_up,
)

RULES = (OVERFLOW, NONFINITE, BLOWN_UP)
