"""Index coordinates, one for each dimension, and the other coordinates along them."""

from __future__ import annotations

from functools import partial

from gradscope.schema.variable import Variable, by_name

PARAM_KINDS = ("weight", "bias", "norm_weight", "norm_bias", "dead_bias", "embedding", "other")
"""Roles of a parameter; ``dead_bias`` is a bias that the normalisation right behind it cancels."""

_number = partial(Variable, dtype="int32")
_text = partial(Variable, dtype="str", units="")


def _depths(dim: str) -> tuple[Variable, ...]:
    """Declare where in the network a parameter or layer is."""
    return (
        _number(
            name="depth", dims=(dim,), long_name="weight layers before, in first-execution order"
        ),
        _number(
            name="relative_depth",
            dims=(dim,),
            long_name="depth, 0 at the input and 1 at the output",
            dtype="float64",
        ),
        _text(name="layer_type", dims=(dim,), long_name="class of the layer"),
        _number(
            name="stage",
            dims=(dim,),
            long_name="stage of the network, counted by changes of resolution",
        ),
    )


PARAM_COORDINATES = by_name(
    _text(name="layer", dims=("param",), long_name="layer that owns the parameter"),
    *_depths("param"),
    _text(name="kind", dims=("param",), long_name="role of the parameter"),
    _number(name="numel", dims=("param",), long_name="entries of the parameter", dtype="int64"),
    _text(name="shape", dims=("param",), long_name="shape of the parameter"),
    _number(name="fan_in", dims=("param",), long_name="inputs of each output unit", dtype="int64"),
    _number(name="param_group", dims=("param",), long_name="parameter group in the optimizer"),
    _number(
        name="requires_grad",
        dims=("param",),
        long_name="whether the parameter trains",
        dtype="bool",
    ),
)
"""Coordinates along ``param`` that are no index."""

LAYER_COORDINATES = by_name(
    *_depths("layer"),
    _text(name="aliases", dims=("layer",), long_name="other names of the same module"),
)
"""Coordinates along ``layer`` that are no index."""

INDEXES = by_name(
    _number(name="step", dims=("step",), long_name="attempted optimizer step", dtype="int64"),
    _text(name="param", dims=("param",), long_name="qualified parameter name"),
    _text(name="layer", dims=("layer",), long_name="qualified module name"),
    _number(
        name="param_group",
        dims=("param_group",),
        long_name="parameter group of the optimizer",
    ),
    _number(
        name="grad_bin",
        dims=("grad_bin",),
        long_name="lower edge of the octave of the gradient, log2",
    ),
    _number(
        name="moment_bin",
        dims=("moment_bin",),
        long_name="lower edge of the octave of the second moment, log2",
    ),
    _number(name="sketch", dims=("sketch",), long_name="projection"),
    _number(
        name="event",
        dims=("event",),
        long_name="step at which the flight recorder fired",
        dtype="int64",
    ),
)
"""Index coordinates: one for each dimension that a recording may have."""
