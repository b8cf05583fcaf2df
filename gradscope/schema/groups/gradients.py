"""``/gradients``: statistics of each parameter's gradient."""

from __future__ import annotations

from functools import partial

from gradscope.schema.variable import (
    BEFORE,
    COSINE,
    MAXIMUM,
    NOT_NEGATIVE,
    RECOMPUTE,
    ROOT_SUM_SQUARES,
    SUM,
    UNIT,
    Aggregation,
    Group,
    Variable,
    by_name,
)

_of_gradient = partial(Variable, dims=("step", "param"), phase=BEFORE)
_MEAN = Aggregation("mean", "finite_numel")

GRADIENTS = Group(
    "gradients",
    ("step", "param"),
    "What the optimizer consumes: after all-reduce, unscaling and clipping, without weight decay.",
    by_name(
        _of_gradient(
            name="grad_norm",
            long_name="gradient norm",
            reduction="root of the sum of squares",
            formula="sqrt(sum g^2)",
            aggregation=ROOT_SUM_SQUARES,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_gradient(
            name="grad_mean",
            long_name="mean gradient",
            reduction="mean",
            formula="sum g / n",
            aggregation=_MEAN,
            scale="signed",
        ),
        _of_gradient(
            name="grad_abs_mean",
            long_name="mean absolute gradient",
            reduction="mean",
            formula="sum |g| / n",
            aggregation=_MEAN,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_gradient(
            name="grad_abs_max",
            long_name="largest absolute gradient",
            reduction="maximum",
            formula="max |g|",
            aggregation=MAXIMUM,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_gradient(
            name="grad_kurtosis",
            long_name="kurtosis of the gradient about zero",
            reduction="ratio of means",
            formula="mean g^4 / (mean g^2)^2",
            aggregation=Aggregation("kurtosis", "finite_numel", ("grad_norm",)),
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_gradient(
            name="grad_zero_fraction",
            long_name="share of gradient entries that are zero",
            reduction="mean",
            formula="#(g = 0) / n",
            aggregation=_MEAN,
            scale="share",
            bounds=UNIT,
        ),
        _of_gradient(
            name="grad_nonfinite",
            long_name="gradient entries that are not finite",
            reduction="count",
            formula="#(g is NaN or infinite)",
            dtype="int64",
            aggregation=SUM,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_gradient(
            name="grad_param_cosine",
            long_name="cosine between gradient and parameter",
            reduction="ratio of sums",
            formula="<g, theta> / (|g| |theta|)",
            aggregation=Aggregation("cosine", of=("grad_norm", "param_norm")),
            scale="signed",
            bounds=COSINE,
        ),
    ),
    derived=by_name(
        _of_gradient(
            name="grad_rms",
            long_name="root mean square gradient",
            reduction="root mean square",
            formula="grad_norm / sqrt(numel)",
            aggregation=RECOMPUTE,
            scale="log",
        ),
    ),
)
