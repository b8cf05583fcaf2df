"""Declarations of variables and groups, and the words that declarations use."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["", "before_step", "after_step", "forward", "backward"]
BEFORE: Phase = "before_step"
AFTER: Phase = "after_step"
FORWARD: Phase = "forward"
BACKWARD: Phase = "backward"

Scale = Literal["auto", "log", "linear", "signed", "share"]
"""How values are drawn and compared.

``log`` magnitudes: logarithmic colours and axes, compared by ratios. ``linear`` logarithms and
other numbers with an arbitrary zero. ``signed`` numbers on both sides of zero: symmetric colours.
``share`` fractions from 0 to 1, linear. ``auto`` variables that nobody declared: signed where any
value is negative, else log. All but ``log`` and ``auto`` are compared by differences.
"""

SCALES: dict[str, Scale] = {
    "auto": "auto",
    "log": "log",
    "linear": "linear",
    "signed": "signed",
    "share": "share",
}
"""Scales by the names that a variable of ``/custom`` may give in its attribute ``scale``."""

Rule = Literal[
    "none",
    "sum",
    "root_sum_squares",
    "maximum",
    "mean",
    "root_mean_square",
    "cosine",
    "kurtosis",
    "log_variance",
    "common",
    "recompute",
]

Weight = Literal["", "numel", "finite_numel", "positive_numel", "output_numel", "v_hat_sum"]


@dataclass(frozen=True)
class Aggregation:
    """How a variable of a union of parameters (or layers) follows from those of its members.

    Parameters
    ----------
    rule : str
        ``sum``, ``root_sum_squares`` and ``maximum`` need nothing else. ``mean`` and
        ``root_mean_square`` are weighted. ``cosine`` divides the sum of inner products by the norms
        of both unions. ``kurtosis`` and ``log_variance`` pool fourth moments and variances.
        ``common`` is the value that all members share. ``recompute`` applies the formula of a
        derived variable to its aggregated inputs. ``none`` means that it does not follow.
    weight : str
        What a mean is weighted by: ``numel``; ``finite_numel``, entries of the gradient that are
        finite; ``positive_numel``, entries with v > 0; ``output_numel``; ``v_hat_sum``, the sum of
        the bias-corrected second moment.
    of : tuple of str
        Other variables that the rule reads: for ``cosine`` the two norms.
    """

    rule: Rule = "none"
    weight: Weight = ""
    of: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Set it in words.

        >>> str(Aggregation("mean", "numel")), str(Aggregation("cosine", of=("a", "b")))
        ('mean by numel', 'cosine of a, b')
        """
        words = self.rule.replace("_", " ")
        words += f" by {self.weight.replace('_', ' ')}" if self.weight else ""
        return words + (f" of {', '.join(self.of)}" if self.of else "")


NO_AGGREGATION = Aggregation()
SUM = Aggregation("sum")
ROOT_SUM_SQUARES = Aggregation("root_sum_squares")
MAXIMUM = Aggregation("maximum")
RECOMPUTE = Aggregation("recompute")

CUSTOM_AGGREGATIONS = {
    "none": NO_AGGREGATION,
    "sum": SUM,
    "root_sum_squares": ROOT_SUM_SQUARES,
    "maximum": MAXIMUM,
    "mean": Aggregation("mean", "numel"),
    "root_mean_square": Aggregation("root_mean_square", "numel"),
}
"""Rules that a variable of ``/custom`` may name in its attribute ``aggregation``."""

ANY = (-math.inf, math.inf)
NOT_NEGATIVE = (0.0, math.inf)
UNIT = (0.0, 1.0)
COSINE = (-1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One named array of a recording.

    Parameters
    ----------
    name : str
    dims : tuple of str
        In storage order.
    long_name, units, reduction, phase, formula : str
        Attributes in the file: what it is, its unit, what was summed over, when in the step it was
        read, and how it is computed.
    dtype : str
        NumPy's name; ``bool`` means int8 in the file with the attributes ``flag_values`` and
        ``flag_meanings``, ``str`` fixed-length UTF-8. Missing is NaN for floats and -1 for integers
        and booleans (attribute ``_FillValue``).
    aggregation : Aggregation
        How it combines over parameters or layers.
    scale : {"auto", "log", "linear", "signed", "share"}
        How it is drawn and compared.
    source_attribute : str
        Root attribute that says where the values are known from; the variable repeats it in its own
        attribute ``source``.
    bounds : (float, float)
        Values outside are an error of the recording; missing values are exempt.
    """

    name: str
    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    reduction: str = "none"
    phase: Phase = ""
    formula: str = ""
    dtype: str = "float32"
    aggregation: Aggregation = NO_AGGREGATION
    scale: Scale = "auto"
    source_attribute: str = ""
    bounds: tuple[float, float] = ANY

    @property
    def attrs(self) -> dict[str, str]:
        """Attributes in the file; empty ones are left out."""
        names = ("long_name", "units", "reduction", "phase", "formula")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


@dataclass(frozen=True)
class Group:
    """One group of a recording: variables that share their dimensions and their cadence.

    Parameters
    ----------
    name : str
    dims : tuple of str
        Shared leading dimensions; undeclared variables of an open group have exactly these.
    description : str
    variables : dict of str to Variable
        Stored variables.
    derived : dict of str to Variable
        Added by ``open_recording`` and never stored.
    is_open : bool
        Whether users may add variables of their own.
    """

    name: str
    dims: tuple[str, ...]
    description: str
    variables: dict[str, Variable] = field(default_factory=dict)
    derived: dict[str, Variable] = field(default_factory=dict)
    is_open: bool = False


def by_name(*variables: Variable) -> dict[str, Variable]:
    """Return variables by their names, in order."""
    return {variable.name: variable for variable in variables}
