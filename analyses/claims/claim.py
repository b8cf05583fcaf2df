"""Claims, declared before any run, and the evidence from the runs.

A claim fixes its prediction, margin, combination of components, arm and break conditions; evidence
is one number per seed and component (a slope, a difference of paired arms), so that the run is the
unit and layers, steps and images are not.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradscope.errors import UsageError, unknown
from gradscope.stats.sample import finite_sample

SCALES = ("smoke", "cpu", "mini", "short", "full")

Prediction = Literal["greater", "less", "either", "equal"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement that runs can support or refute.

    Parameters
    ----------
    key : str
        Short name, ``"P1"``.
    statement : str
        The sentence, true or false.
    prediction : {"greater", "less", "either", "equal"}
        The effect lies above +margin, below −margin, beyond either, or within ±margin.
    margin : float
        Smallest effect of interest, in ``unit``.
    unit : str
        Unit of effect and margin.
    combine : {"all", "any"}, default "all"
        Whether every component (network, alpha) must behave so, or one is enough.
    is_about_accuracy : bool, default False
        Claims about accuracy or generalisation are decided only at scale ``full``.
    arm : str, default ""
        Arm that the evidence must come from, ``"tuned"`` for claims about alpha.
    allowance : float, default 0
        What tuning alone may move the effect by, in ``unit``: every fresh seed shares the chosen
        trial, so seeds cannot average it out. Effects must clear the margin by it.
    break_conditions : tuple of str
        What, if it happens, leaves the claim undecided.
    """

    key: str
    statement: str
    prediction: Prediction
    margin: float
    unit: str
    combine: Literal["all", "any"] = "all"
    is_about_accuracy: bool = False
    arm: str = ""
    allowance: float = 0.0
    break_conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.margin > 0 and math.isfinite(self.margin)):
            raise UsageError(f"`margin` of {self.key} must be positive; got {self.margin}")
        if not 0 <= self.allowance < self.margin:
            raise UsageError(
                f"`allowance` of {self.key} must lie from 0 to below the margin; got "
                f"{self.allowance}"
            )
        if self.prediction not in ("greater", "less", "either", "equal"):
            known = ("greater", "less", "either", "equal")
            raise UsageError(unknown("prediction", self.prediction, known))
        if self.combine == "any" and self.prediction == "equal":
            raise UsageError(f"{self.key}: equality holds of all components; `combine` is 'any'")

    @property
    def outer(self) -> float:
        """Bound that an effect must exceed to count as beyond the margin."""
        return self.margin + self.allowance

    @property
    def inner(self) -> float:
        """Bound that an effect must stay below to count as within the margin."""
        return self.margin - self.allowance


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Evidence from the runs on one claim.

    Parameters
    ----------
    values : ndarray, shape (n_seeds, n_components)
        One effect per seed and component, in the claim's unit. A diverged run has its declared
        outcome (chance accuracy), never nan.
    components : tuple of str
        Names of the columns.
    scale : {"smoke", "cpu", "short", "full"}
        Size of the runs.
    arms : tuple of str
        Arms that were run.
    breaks_fired : tuple of str
        Break conditions of the claim that happened.
    n_diverged : int
        Runs that diverged, of all runs behind the values.
    """

    values: NDArray[np.float64]
    components: tuple[str, ...]
    scale: str
    arms: tuple[str, ...]
    breaks_fired: tuple[str, ...] = ()
    n_diverged: int = 0

    def __post_init__(self) -> None:
        values = finite_sample(self.values, "values", minimum=1, ndim=2)
        if values.shape[1] != len(self.components):
            raise UsageError(
                f"`components` needs one name per column; got {len(self.components)} for shape "
                f"{values.shape}"
            )
        if self.scale not in SCALES:
            raise UsageError(unknown("scale", self.scale, SCALES))
        object.__setattr__(self, "values", values)

    @property
    def n(self) -> int:
        """Number of seeds."""
        return int(self.values.shape[0])


PRIMARIES = (
    Claim(
        key="P1",
        statement="Gradients of layer outputs grow or shrink by at least 0.05 nat a layer within "
        "the stages of batch-norm VGG13, 16 and 19 at initialisation (H1a)",
        prediction="either",
        margin=0.05,
        unit="nat a layer",
        break_conditions=("an instrument check fails", "plain-L controls miss their known slopes"),
    ),
    Claim(
        key="P2",
        statement="At equilibrium the depth-wise log-slope of update_ratio against grad_rms is 0 "
        "with decoupled and -alpha with coupled decay (H1d)",
        prediction="equal",
        margin=0.03,
        unit="slope",
        # The second was added once runs of a first design were seen, before those of today's.
        break_conditions=(
            "equilibrium age is 3 or less",
            "no equilibrium in spite of its age: norms still drift",
        ),
    ),
    Claim(
        key="P3",
        statement="At a fixed learning rate the accuracy at alpha is that of alpha = 0's direction "
        "with alpha's global step size: the curve is a learning-rate curve (H2d-eq)",
        prediction="equal",
        margin=0.003,
        unit="accuracy",
        is_about_accuracy=True,
        arm="grafted",
        break_conditions=("the alpha = 0 baseline misses its reference accuracy",),
    ),
    Claim(
        key="P4",
        statement="Some alpha other than 0 beats alpha = 0 when both are tuned alike (H2d-b)",
        prediction="greater",
        margin=0.003,
        unit="accuracy",
        combine="any",
        is_about_accuracy=True,
        arm="tuned",
        # 95 % quantile of what tuning in factor-2 steps moves one difference by, at 0.4 points per
        # squared octave and 0.15 points of validation noise (analyses.claims.simulation).
        allowance=0.0016,
        break_conditions=(
            "the alpha = 0 baseline misses its reference accuracy",
            "the best trial of an arm lies at the edge of its grid",
            "the tuning surface is steeper than the allowance assumes",
        ),
    ),
    Claim(
        key="P5",
        statement="The best alpha of the tuned arm moves by more than 0.1 with the data set (H3c)",
        prediction="either",
        margin=0.1,
        unit="alpha",
        is_about_accuracy=True,
        arm="tuned",
        # Standard deviation of what the same tuning moves the vertex by, at 3 points per squared
        # alpha.
        allowance=0.03,
        break_conditions=(
            "best alpha not identified: more than 5 % of fits are not concave, or at the range's "
            "end",
            "the best alpha does not move monotonically",
        ),
    ),
)
