"""``/activations``: outputs of layers and the gradients that arrive there."""

from __future__ import annotations

from functools import partial

from gradscope.schema.variable import (
    BACKWARD,
    FORWARD,
    MAXIMUM,
    NOT_NEGATIVE,
    SUM,
    UNIT,
    Aggregation,
    Group,
    Variable,
    by_name,
)

_of_output = partial(Variable, dims=("step", "layer"), phase=FORWARD)
_of_output_grad = partial(Variable, dims=("step", "layer"), phase=BACKWARD)
_MEAN = Aggregation("mean", "output_numel")
_ROOT_MEAN_SQUARE = Aggregation("root_mean_square", "output_numel")

ACTIVATIONS = Group(
    "activations",
    ("step", "layer"),
    "Outputs of each layer and the gradient of the global-batch mean loss with respect to them.",
    by_name(
        _of_output(
            name="output_mean",
            long_name="mean output",
            reduction="mean over batch and features",
            formula="mean y",
            aggregation=_MEAN,
            scale="signed",
        ),
        _of_output(
            name="output_rms",
            long_name="root mean square output",
            reduction="root mean square over batch and features",
            formula="sqrt(mean y^2)",
            aggregation=_ROOT_MEAN_SQUARE,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_output(
            name="output_abs_max",
            long_name="largest absolute output",
            reduction="maximum",
            formula="max |y|",
            aggregation=MAXIMUM,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_output(
            name="output_zero_fraction",
            long_name="share of outputs that are zero",
            reduction="mean",
            formula="#(y = 0) / n",
            aggregation=_MEAN,
            scale="share",
            bounds=UNIT,
        ),
        _of_output(
            name="output_numel",
            long_name="output entries in the step",
            reduction="count",
            dtype="int64",
            aggregation=SUM,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_output_grad(
            name="output_grad_rms",
            long_name="root mean square gradient of the layer output",
            reduction="root mean square over batch and features",
            formula="sqrt(mean delta^2)",
            aggregation=_ROOT_MEAN_SQUARE,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_output_grad(
            name="output_grad_abs_max",
            long_name="largest absolute gradient of the layer output",
            reduction="maximum",
            formula="max |delta|",
            aggregation=MAXIMUM,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_output_grad(
            name="output_grad_zero_fraction",
            long_name="share of output gradients that are zero",
            reduction="mean",
            formula="#(delta = 0) / n",
            aggregation=_MEAN,
            scale="share",
            bounds=UNIT,
        ),
    ),
)
