"""Rules about the size of updates: learning rates that are too high, too low or not warmed up."""

from __future__ import annotations

import numpy as np

from gradscope.derived.health.rule import Rule, Sign
from gradscope.derived.health.rules.gradient_flow import GRADIENT_FACTOR, gradient_flow
from gradscope.derived.health.rules.loss import LossCurve, loss_curve
from gradscope.derived.health.run_data import Array, RecordedRun, median

FAST_START = 0.2
FAST = 0.1
SLOW = 1e-5
PEAK = 1.25
LITTLE = 0.1
FIRST_STEPS = 5
SLOW_ROWS = 50
WARM_START = 0.5
COLLAPSE = 1e-2


def _pace(run: RecordedRun, rows: str) -> tuple[Array, Array] | None:
    """Return steps and the update ratio of the median weight in each row."""
    ratio, places = run.values("updates", "update_ratio", rows), run.weights("updates")
    if ratio is None or not len(places):
        return None
    return run.steps("updates", rows), median(ratio[:, places], axis=1)


def _learned_little(curve: LossCurve) -> bool:
    return curve.fall < LITTLE


def _fast(run: RecordedRun) -> tuple[float, int, int] | None:
    """Return update ratio and steps where it exceeds its bound, at the start or throughout."""
    seen, first = _pace(run, "seen"), _pace(run, "first")
    if seen is None or first is None:
        return None
    if run.is_from_start and run.window is None:
        is_first = first[0] <= max(FIRST_STEPS, first[0][0])
        ratio = float(median(first[1][is_first]))
        if ratio >= FAST_START:
            return ratio, int(first[0][0]), int(first[0][is_first][-1])
    ratio = float(median(seen[1]))
    return (ratio, int(seen[0][0]), int(seen[0][-1])) if ratio >= FAST else None


def _suffers(curve: LossCurve) -> str:
    """Describe how the loss shows that steps are too large; empty if it does not."""
    first = float(curve.values[0])
    rise = max(PEAK - 1, 0) * abs(first) + 3 * curve.noise
    if curve.peak > first + rise:
        return f"the loss rose from {first:.3g} to {curve.peak:.3g}"
    if len(curve.values) >= SLOW_ROWS and _learned_little(curve):
        return f"the loss only came from {curve.start:.3g} to {curve.end:.3g}"
    return ""


def check_too_high(run: RecordedRun) -> list[Sign]:
    """Find steps that are large relative to the weights while the loss does not fall."""
    fast, curve = _fast(run), loss_curve(run, 2)
    if fast is None or curve is None:
        return []
    ratio, first, last = fast
    words = _suffers(curve)
    if not words:
        return []
    message = f"a step changes the median weight by {ratio:.2g} of its norm, and {words}"
    return [Sign("warning", message, (), first, last)]


def check_too_low(run: RecordedRun) -> list[Sign]:
    """Find steps that are tiny relative to the weights while the loss hardly falls."""
    pace, curve, lr = _pace(run, "seen"), loss_curve(run, SLOW_ROWS), run.lr
    if pace is None or curve is None or not _learned_little(curve) or not run.is_from_start:
        return []
    steps, ratios = pace
    ratio = float(median(ratios))
    is_warming_up = lr is not None and lr[-1] >= np.nanmax(lr) > 1.5 * lr[0]
    if not ratio < SLOW or is_warming_up:
        return []
    message = (
        f"a step changes the median weight by {ratio:.2g} of its norm, and the loss came from "
        f"{curve.start:.4g} to {curve.end:.4g} in {curve.steps[-1]:,} steps"
    )
    return [Sign("warning", message, (), int(steps[0]), int(steps[-1]))]


def _is_transformer(run: RecordedRun) -> bool:
    """Detect attention by the class or name of a layer, together with layer norm."""
    found = (
        run.coordinate(group, name)
        for group, axis in (("gradients", "param"), ("activations", "layer"))
        for name in (axis, "layer_type")
    )
    texts = [str(text).lower() for array in found if array is not None for text in array]
    has_attention = any("attention" in text or "attn" in text for text in texts)
    return has_attention and any("layernorm" in text or "rmsnorm" in text for text in texts)


def check_no_warmup(run: RecordedRun) -> list[Sign]:
    """Find transformers that start at the full learning rate and train poorly."""
    lr = run.lr
    if lr is None or not len(lr) or not run.is_from_start or not _is_transformer(run):
        return []
    if lr[0] < WARM_START * np.nanmax(lr):
        return []
    words = f"a transformer starts at learning rate {lr[0]:.3g} without warm-up: "
    return [
        Sign(sign.severity, words + sign.message, sign.layers, sign.first_step, sign.last_step)
        for sign in check_too_high(run) or _collapse(run)
    ]


def _collapse(run: RecordedRun) -> list[Sign]:
    """Find gradients that reach all layers at step 1 but not later, while the loss hardly falls."""
    flow, curve = gradient_flow(run, "first"), loss_curve(run, SLOW_ROWS)
    if flow is None or curve is None or not _learned_little(curve):
        return []
    ratio = flow.ratio()
    late = float(median(ratio[len(ratio) // 2 :]))
    if not ratio[0] * GRADIENT_FACTOR > 1 or not late <= COLLAPSE * ratio[0]:
        return []
    place = int(np.argmax(ratio <= COLLAPSE * ratio[0]))
    message = (
        f"gradients in the first quarter of the net, over those in the last, fell from "
        f"{ratio[0]:.2g} to {late:.2g}, and the loss only came from {curve.start:.3g} to "
        f"{curve.end:.3g}"
    )
    first, last = int(flow.steps[place]), int(flow.steps[-1])
    return [Sign("warning", message, flow.names[flow.quarters[0]], first, last)]


NO_WARMUP = Rule(
    name="transformer without warm-up",
    formula="the network has attention and layer norm; the first lr is at least warm times the "
    "highest; and either the condition of the rule learning rate too high holds, or the ratio of "
    "the gradients in the first to those in the last quarter of the network falls below collapse "
    "times its value at step 1 while the loss falls by less than little",
    thresholds={"warm": WARM_START, "collapse": COLLAPSE, "little": LITTLE},
    advice="raise the learning rate from 0 over the first steps (a few hundred, or 1 to 5 %)",
    check=check_no_warmup,
    explains=(
        "learning rate too high",
        "dead ReLU",
        "stalled loss",
        "gradient blow-up",
        "vanishing gradients",
        "exploding gradients",
    ),
)
TOO_HIGH = Rule(
    name="learning rate too high",
    formula="median of update_ratio over weights and rows at least fast_start in the first 5 "
    "steps, or at least fast in the last rows; and the loss rises above peak times its first "
    "value or falls by less than little",
    thresholds={"fast_start": FAST_START, "fast": FAST, "peak": PEAK, "little": LITTLE},
    advice="divide the learning rate by ten",
    check=check_too_high,
    explains=(
        "dead ReLU",
        "stalled loss",
        "gradient blow-up",
        "vanishing gradients",
        "exploding gradients",
        "frozen layer",
    ),
)
TOO_LOW = Rule(
    name="learning rate too low",
    formula="median of update_ratio over weights and the last rows below slow, and the loss fell "
    "by less than little over rows rows or more; does not apply while the learning rate rises",
    thresholds={"slow": SLOW, "little": LITTLE, "rows": SLOW_ROWS},
    advice="multiply the learning rate by ten until the loss moves",
    check=check_too_low,
    explains=("stalled loss",),
)

RULES = (NO_WARMUP, TOO_HIGH, TOO_LOW)
