"""The vocabulary of a recording: groups, dimensions, variables, coordinates, attributes.

Declarations only, on the standard library alone. Every name that is written to or read from a
recording is declared here (a test checks it), so that each formula, unit, aggregation and scale
has one place. Notation in the formulas: ``g`` gradient, ``theta`` parameter, ``m``, ``v`` raw
first and second moment, ``m_hat``, ``v_hat`` bias-corrected, ``u`` update, ``y`` output of a layer,
``delta`` gradient of the loss with respect to it, ``n`` number of finite entries.

A new quantity is one `Variable` in its group's file under `gradscope.schema.groups`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradscope.schema.attributes import (
    FORMER_NAMES,
    ROOT_ATTRIBUTES,
    SCHEMA_VERSION,
    STATUSES,
    check_attributes,
)
from gradscope.schema.coordinates import (
    INDEXES,
    LAYER_COORDINATES,
    PARAM_COORDINATES,
    PARAM_KINDS,
)
from gradscope.schema.groups.activations import ACTIVATIONS
from gradscope.schema.groups.custom import CUSTOM
from gradscope.schema.groups.evaluation import EVALUATION
from gradscope.schema.groups.gradients import GRADIENTS
from gradscope.schema.groups.histograms import GRAD_BIN_RANGE, HISTOGRAMS, MOMENT_BIN_RANGE
from gradscope.schema.groups.noise import NOISE
from gradscope.schema.groups.second_moments import SECOND_MOMENTS
from gradscope.schema.groups.sketches import N_SKETCHES, SKETCHES
from gradscope.schema.groups.spikes import SPIKES
from gradscope.schema.groups.training import TRAINING
from gradscope.schema.groups.updates import UPDATES
from gradscope.schema.variable import (
    CUSTOM_AGGREGATIONS,
    SCALES,
    Aggregation,
    Group,
    Scale,
    Variable,
)

__all__ = [
    "ACTIVATIONS",
    "CUSTOM",
    "CUSTOM_AGGREGATIONS",
    "DERIVED",
    "EVALUATION",
    "FORMER_NAMES",
    "GRADIENTS",
    "GRAD_BIN_RANGE",
    "GROUPS",
    "HISTOGRAMS",
    "INDEXES",
    "LAYER_COORDINATES",
    "MOMENT_BIN_RANGE",
    "NOISE",
    "N_SKETCHES",
    "PARAM_COORDINATES",
    "PARAM_KINDS",
    "ROOT_ATTRIBUTES",
    "SCALES",
    "SCHEMA_VERSION",
    "SECOND_MOMENTS",
    "SKETCHES",
    "SPIKES",
    "STATUSES",
    "TRAINING",
    "UPDATES",
    "VARIABLES",
    "Aggregation",
    "Group",
    "Scale",
    "Variable",
    "check_attributes",
    "declaration",
    "find",
]

GROUPS: dict[str, Group] = {
    group.name: group
    for group in (
        TRAINING,
        EVALUATION,
        GRADIENTS,
        SECOND_MOMENTS,
        UPDATES,
        ACTIVATIONS,
        HISTOGRAMS,
        SKETCHES,
        NOISE,
        CUSTOM,
        SPIKES,
    )
}

DERIVED: dict[str, dict[str, Variable]] = {
    group.name: group.derived for group in GROUPS.values() if group.derived
}
"""Variables that ``open_recording`` adds, by group; they are never stored."""

VARIABLES: dict[str, tuple[str, Variable]] = {
    name: (group.name, variable)
    for group in GROUPS.values()
    for name, variable in (group.variables | group.derived).items()
}
"""Group and declaration of every stored or derived variable, by its name."""


def find(quantity: str) -> tuple[str, Variable]:
    """Return group name and declaration of a stored or derived variable.

    Raises
    ------
    KeyError
        If no variable of that name is declared.
    """
    return VARIABLES[quantity]


def declaration(quantity: str, attrs: Mapping[Any, Any] | None = None) -> Variable:
    """Return the declaration of a variable, or what the attributes say of one that users added.

    Parameters
    ----------
    quantity : str
        Name of the variable.
    attrs : mapping, optional
        Its attributes: ``long_name``, ``units``, and for variables of ``/custom`` ``aggregation``
        (a key of `CUSTOM_AGGREGATIONS`) and ``scale``.
    """
    if quantity in VARIABLES:
        return VARIABLES[quantity][1]
    words = {key: str(value) for key, value in (attrs or {}).items()}
    scale = words.get("scale")
    return Variable(
        name=quantity,
        dims=(),
        long_name=words.get("long_name", quantity),
        units=words.get("units", "1"),
        aggregation=CUSTOM_AGGREGATIONS.get(words.get("aggregation", "none"), Aggregation()),
        scale=SCALES.get(scale or "auto", "auto"),
    )
