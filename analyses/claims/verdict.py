"""Verdicts on claims: supported, not supported or inconclusive, with the reason.

``judge`` takes the whole family of claims at once, because Holm's correction is over all of them,
run or not. A claim is decided only if nothing forbids it, in this order: no runs; scale below
``full`` for a claim about accuracy; an arm missing; a break condition fired; too few seeds for the
strictest Holm threshold; an interval whose half-width exceeds half the margin. Then it is

- *supported* if its p against the margin stays at 5 % after Holm and the 95 % interval lies beyond
  the margin (within it, for a claim of equality);
- *not supported* if the opposite is shown at 5 % after Holm: a negligible effect, or one opposite
  to the prediction (beyond the margin, for a claim of equality);
- *inconclusive* otherwise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analyses.claims.claim import PRIMARIES, Claim, Evidence
from analyses.claims.evidence_tests import Weight, weigh
from gradscope.errors import UsageError, unknown
from gradscope.stats.result import as_json
from gradscope.stats.tests.multiplicity import holm
from gradscope.stats.tests.power import seeds_to_attain, smallest_attainable_p

LEVEL = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """One claim's verdict; ``components`` maps each name to its effect and 95 % interval."""

    key: str
    statement: str
    word: str
    reason: str
    effect: float
    low: float
    high: float
    unit: str
    margin: float
    allowance: float
    prediction: str
    component: str
    components: dict[str, tuple[float, float, float]]
    p_supported: float
    p_refuted: float
    n: int
    n_diverged: int
    arms: tuple[str, ...]
    scale: str
    break_conditions: tuple[str, ...]
    breaks_fired: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return every field as JSON can hold it; p are Holm-adjusted."""
        return {f.name: as_json(getattr(self, f.name)) for f in dataclasses.fields(self)}


def judge(
    evidence: Mapping[str, Evidence], claims: Sequence[Claim] = PRIMARIES
) -> tuple[Verdict, ...]:
    """Judge a family of claims by the evidence.

    Parameters
    ----------
    evidence : mapping from claim key to Evidence
        A claim without evidence still counts in the correction, with p = 1.
    claims : sequence of Claim, default the five primaries
        The family, fixed before any run.

    Returns
    -------
    tuple of Verdict
        In the order of the claims.

    Raises
    ------
    UsageError
        For evidence on a claim that is not of the family.
    """
    for key in evidence:
        if key not in {claim.key for claim in claims}:
            raise UsageError(unknown("claim", key, [claim.key for claim in claims]))
    weights: dict[str, Weight] = {}
    obstacles: dict[str, str] = {}
    for claim in claims:
        given = evidence.get(claim.key)
        if given is not None and given.n >= 2:
            weights[claim.key] = weigh(claim, given)
        obstacles[claim.key] = obstacle(claim, given, len(claims))
    # What cannot be decided enters Holm with p = 1, which only makes the others stricter.
    open_keys = {key for key, reason in obstacles.items() if not reason}
    supported = holm([weights[c.key].p_supported if c.key in open_keys else 1.0 for c in claims])
    refuted = holm([weights[c.key].p_refuted if c.key in open_keys else 1.0 for c in claims])
    return tuple(
        _verdict(
            claim,
            evidence.get(claim.key),
            weights.get(claim.key),
            obstacles[claim.key],
            (float(supported.adjusted[i]), float(refuted.adjusted[i])),
        )
        for i, claim in enumerate(claims)
    )


def check_design(n_seeds: int, n_claims: int = len(PRIMARIES)) -> None:
    """Refuse a design whose smallest attainable p exceeds its Holm threshold.

    Raises
    ------
    UsageError
        With the seeds needed.

    Examples
    --------
    >>> check_design(10)
    >>> check_design(3)
    Traceback (most recent call last):
        ...
    gradscope.errors.UsageError: 3 seeds attain no p below 0.25; the Holm threshold is 0.01: run at least 8 seeds
    """  # noqa: E501
    threshold = LEVEL / n_claims
    least = smallest_attainable_p(n_seeds)
    if least > threshold:
        raise UsageError(
            f"{n_seeds} seeds attain no p below {least:.3g}; the Holm threshold is "
            f"{threshold:.3g}: run at least {seeds_to_attain(threshold)} seeds"
        )


def obstacle(claim: Claim, evidence: Evidence | None, n_claims: int) -> str:
    """Return the reason that rules out a decision for any numbers, or an empty string."""
    if evidence is None:
        return "runs: there are none"
    if claim.is_about_accuracy and evidence.scale != "full":
        return f"scale: decided only at full, these runs are {evidence.scale}"
    if claim.arm and claim.arm not in evidence.arms:
        return f"arms: needs the {claim.arm} arm, got {', '.join(evidence.arms) or 'none'}"
    if evidence.breaks_fired:
        return f"break condition: {'; '.join(evidence.breaks_fired)}"
    try:
        check_design(evidence.n, n_claims)
    except UsageError as error:
        return f"seeds: {error}"
    return ""


def _verdict(
    claim: Claim,
    evidence: Evidence | None,
    weight: Weight | None,
    forbidden: str,
    adjusted: tuple[float, float],
) -> Verdict:
    """Write one claim's verdict."""
    word, reason = "inconclusive", forbidden
    if weight is not None and evidence is not None and not forbidden:
        word, reason = _decide(claim, evidence, weight, adjusted)
    at = weight.leading if weight else 0
    names = evidence.components if evidence else ()
    nan = math.nan
    rows = [] if weight is None else np.stack([weight.effects, weight.low, weight.high], 1).tolist()
    effect, low, high = rows[at] if rows else (nan, nan, nan)
    return Verdict(
        key=claim.key,
        statement=claim.statement,
        word=word,
        reason=reason,
        effect=effect,
        low=low,
        high=high,
        unit=claim.unit,
        margin=claim.margin,
        allowance=claim.allowance,
        prediction=claim.prediction,
        component=names[at] if names else "",
        components={name: tuple(row) for name, row in zip(names, rows, strict=False)},
        p_supported=adjusted[0],
        p_refuted=adjusted[1],
        n=evidence.n if evidence else 0,
        n_diverged=evidence.n_diverged if evidence else 0,
        arms=evidence.arms if evidence else (),
        scale=evidence.scale if evidence else "",
        break_conditions=claim.break_conditions,
        breaks_fired=evidence.breaks_fired if evidence else (),
    )


def _decide(
    claim: Claim, evidence: Evidence, weight: Weight, adjusted: tuple[float, float]
) -> tuple[str, str]:
    """Apply Holm's p, the interval and the half-width rule."""
    p_supported, p_refuted = adjusted
    is_supported = p_supported <= LEVEL and _interval_agrees(claim, weight)
    # For "any" the component that is found must be precise; else all of them.
    decisive = [weight.leading] if is_supported and claim.combine == "any" else slice(None)
    half = float((weight.high - weight.low)[decisive].max()) / 2
    if half > claim.margin / 2:
        # The half-width falls as 1 / √n, so seeds grow with its square.
        needed = math.ceil(evidence.n * (2 * half / claim.margin) ** 2)
        return "inconclusive", (
            f"precision: half-width {half:.3g} exceeds half the margin {claim.margin:g}; about "
            f"{needed} seeds would do"
        )
    if is_supported:
        return "supported", f"as predicted against the margin, p = {p_supported:.3g} after Holm"
    if p_refuted <= LEVEL:
        return "not supported", f"the opposite is shown, p = {p_refuted:.3g} after Holm"
    return "inconclusive", (
        f"neither shown: p = {p_supported:.3g} for and {p_refuted:.3g} against, after Holm"
    )


def _interval_agrees(claim: Claim, weight: Weight) -> bool:
    """Whether the interval lies beyond the margin (within it, for a claim of equality)."""
    low, high = weight.low, weight.high
    if claim.prediction == "equal":
        return bool(((low > -claim.inner) & (high < claim.inner)).all())
    above, below = low > claim.outer, high < -claim.outer
    beyond = {"greater": above, "less": below, "either": above | below}[claim.prediction]
    return bool(beyond[weight.leading] if claim.combine == "any" else beyond.all())
