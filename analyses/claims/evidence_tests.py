"""P-values for a claim: against its negation (supported) and against the claim (refuted).

Every test is against the *margin*, not against zero: a claim "greater" is supported by rejecting
effect ≤ margin (sign flips of value − margin), and refuted by showing |effect| < margin (TOST) or
effect < 0 (sign flips). Both refutations imply rejecting effect ≥ margin, so the smaller p needs no
correction. A claim "equal" is supported by TOST and refuted by an effect beyond ±margin.

Over components "all" takes the largest p (intersection-union test, Berger 1982,
doi:10.1080/00401706.1982.10487790); "any" takes the max-T p, or Bonferroni's where the tests are t.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from analyses.claims.claim import Claim, Evidence
from gradscope.stats.intervals.student_t import student_t_mean
from gradscope.stats.tests.max_t import max_t
from gradscope.stats.tests.sign_flip import sign_flip
from gradscope.stats.tests.tost import tost


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weight:
    """Both p-values, and the effect of each component with its 95 % t interval.

    ``leading`` is the decisive component: the clearest for "any", the weakest for "all".
    """

    p_supported: float
    p_refuted: float
    effects: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    leading: int


def weigh(claim: Claim, evidence: Evidence) -> Weight:
    """Weigh the evidence on one claim, without any correction over claims."""
    intervals = [student_t_mean(column) for column in evidence.values.T]
    effects = np.array([i.estimate for i in intervals])
    # A prediction "less" is "greater" of the mirrored values; effects keep their sign.
    values = -evidence.values if claim.prediction == "less" else evidence.values
    if claim.prediction == "equal":
        p_supported = _p_within(values, claim.inner).max()
        p_refuted = _p_beyond(values, claim.outer, claim.prediction).min()
        leading = int(np.argmax(np.abs(effects)))
    elif claim.combine == "any":
        p_supported = (beyond := _p_beyond(values, claim.outer, claim.prediction)).min()
        p_refuted = _p_not_beyond(values, claim).max()
        towards = np.abs(values.mean(axis=0)) if claim.prediction == "either" else values.mean(0)
        leading = int(np.lexsort((-towards, beyond))[0])
    else:
        each = [_p_beyond(c[:, None], claim.outer, claim.prediction)[0] for c in values.T]
        p_supported = np.max(each)
        p_refuted = min(1.0, values.shape[1] * _p_not_beyond(values, claim).min())
        leading = int(np.argmax(each))
    return Weight(
        p_supported=float(p_supported),
        p_refuted=float(p_refuted),
        effects=effects,
        low=np.array([i.low for i in intervals]),
        high=np.array([i.high for i in intervals]),
        leading=leading,
    )


def _p_within(values: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """TOST of each component."""
    return np.array([tost(column, margin).p_value for column in values.T])


def _p_beyond(values: NDArray[np.float64], margin: float, prediction: str) -> NDArray[np.float64]:
    """Max-T p of each component against "not beyond the margin", two-sided in its strictness."""
    if prediction in ("either", "equal"):
        sides = np.concatenate([values - margin, -values - margin], axis=1)
        result = max_t(sides, alternative="greater")
        both: NDArray[np.float64] = result.p_value.reshape(2, -1).min(axis=0)
        return both
    result = max_t(values, margin)
    return np.where(result.t > 0, result.p_value, 1.0)


def _p_not_beyond(values: NDArray[np.float64], claim: Claim) -> NDArray[np.float64]:
    """P of each component for "negligible, or opposite to the prediction"."""
    within = _p_within(values, claim.inner)
    if claim.prediction == "either":
        return within
    opposite = [
        sign_flip(c, -claim.allowance).p_value if c.mean() < -claim.allowance else 1.0
        for c in values.T
    ]
    return np.minimum(within, opposite)
