"""Health rules for the signs of a wrong exponent that the paper names.

G. Zhang, H. Liu, arXiv 2405.18498: the loss diverges (alpha too positive) or stalls early (alpha
too negative), or the generalisation gap is large (alpha in the wrong range). A wrong learning rate
has the same effects, so these findings are notes. Use ``check_health(tree, extra=RULES)``.
"""

from __future__ import annotations

import numpy as np

from gradscope.derived.health.rule import Rule, Sign
from gradscope.derived.health.rules.loss import check_diverged, loss_curve
from gradscope.derived.health.run_data import RecordedRun

STALL_LEVEL = 0.5
STALL_ROWS = 100
STALL_FALL = 0.02
GAP = 0.1


def _alpha(run: RecordedRun) -> float | None:
    """Return the last exponent of SMES; None with any other optimizer, whose exponent is fixed."""
    alpha = run.values("training", "alpha", "all")
    if alpha is None or "SMES" not in str(run.attrs.get("optimizer_name", "")):
        return None
    last = float(alpha.reshape(len(alpha), -1)[-1, 0])
    return last if np.isfinite(last) else None


def check_diverges(run: RecordedRun) -> list[Sign]:
    """Find a loss that diverges at a positive exponent."""
    alpha = _alpha(run)
    if alpha is None or alpha <= 0:
        return []
    return [
        Sign("note", f"at alpha {alpha:g} {sign.message}", (), sign.first_step, sign.last_step)
        for sign in check_diverged(run)
    ]


def check_stalls(run: RecordedRun) -> list[Sign]:
    """Find a loss that stops falling early at a negative exponent."""
    alpha, curve = _alpha(run), loss_curve(run, STALL_ROWS)
    if alpha is None or alpha >= 0 or curve is None or check_diverged(run):
        return []
    n = len(curve.values)
    middle = float(np.median(curve.values[n // 2 - n // 20 : n // 2 + n // 20]))
    is_high = curve.end > STALL_LEVEL * curve.start
    if not is_high or middle - curve.end > STALL_FALL * abs(curve.start):
        return []
    message = (
        f"at alpha {alpha:g} the loss was {middle:.3g} half-way and ended at {curve.end:.3g}, of "
        f"{curve.start:.3g} at the start"
    )
    return [Sign("note", message, (), int(curve.steps[n // 2]), int(curve.steps[-1]))]


def check_gap(run: RecordedRun) -> list[Sign]:
    """Find a large generalisation gap in the last evaluation."""
    train, val = (run.values("evaluation", f"{s}_accuracy", "all") for s in ("train", "val"))
    alpha, steps = _alpha(run), run.steps("evaluation", "all")
    if alpha is None or train is None or val is None:
        return []
    known = np.flatnonzero(np.isfinite(train) & np.isfinite(val))
    if not len(known) or train[known[-1]] - val[known[-1]] < GAP:
        return []
    last = known[-1]
    message = (
        f"at alpha {alpha:g} training accuracy is {train[last]:.1%} and validation accuracy "
        f"{val[last]:.1%} at step {steps[last]:,}"
    )
    return [Sign("note", message, (), int(steps[last]), int(steps[last]))]


DIVERGES = Rule(
    name="loss diverges at positive alpha",
    formula="SMES at alpha > 0, and the rule for a diverged loss",
    advice="arXiv 2405.18498 names it a sign of alpha too positive; try a smaller learning rate "
    "first",
    check=check_diverges,
)
STALLS = Rule(
    name="loss stalls early at negative alpha",
    formula="SMES at alpha < 0; the loss ends above level times its start and fell by less than "
    "fall of it in the second half of at least rows",
    thresholds={"level": STALL_LEVEL, "rows": STALL_ROWS, "fall": STALL_FALL},
    advice="arXiv 2405.18498 names it a sign of alpha too negative; try another learning rate "
    "first",
    check=check_stalls,
)
GENERALISATION_GAP = Rule(
    name="large generalisation gap",
    formula="SMES; train_accuracy exceeds val_accuracy by at least gap in the last evaluation",
    thresholds={"gap": GAP},
    advice="arXiv 2405.18498 names it a sign of alpha in the wrong range; few data overfit at any",
    check=check_gap,
)

RULES = (DIVERGES, STALLS, GENERALISATION_GAP)
