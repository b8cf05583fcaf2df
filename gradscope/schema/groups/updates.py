"""``/updates``: the measured change of each parameter."""

from __future__ import annotations

from functools import partial

from gradscope.schema.variable import (
    AFTER,
    BEFORE,
    COSINE,
    NOT_NEGATIVE,
    RECOMPUTE,
    ROOT_SUM_SQUARES,
    SUM,
    Aggregation,
    Group,
    Variable,
    by_name,
)

_of_update = partial(Variable, dims=("step", "param"), phase=AFTER)
_derived = partial(_of_update, aggregation=RECOMPUTE, scale="log")

UPDATES = Group(
    "updates",
    ("step", "param"),
    "The measured change of each parameter, theta_k - theta_(k-1), weight decay included.",
    by_name(
        _of_update(
            name="update_norm",
            long_name="update norm",
            reduction="root of the sum of squares",
            formula="sqrt(sum u^2)",
            aggregation=ROOT_SUM_SQUARES,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_update(
            name="param_norm",
            long_name="parameter norm before the step",
            reduction="root of the sum of squares",
            formula="sqrt(sum theta^2)",
            phase=BEFORE,
            aggregation=ROOT_SUM_SQUARES,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_update(
            name="update_grad_cosine",
            long_name="cosine between update and gradient; -1 is pure descent",
            reduction="ratio of sums",
            formula="<u, g> / (|u| |g|)",
            aggregation=Aggregation("cosine", of=("update_norm", "grad_norm")),
            scale="signed",
            bounds=COSINE,
        ),
        _of_update(
            name="update_param_cosine",
            long_name="cosine between update and parameter",
            reduction="ratio of sums",
            formula="<u, theta> / (|u| |theta|)",
            aggregation=Aggregation("cosine", of=("update_norm", "param_norm")),
            scale="signed",
            bounds=COSINE,
        ),
        _of_update(
            name="descent",
            long_name="first-order decrease of the loss",
            reduction="sum",
            formula="-<g, u>",
            aggregation=SUM,
            scale="signed",
        ),
    ),
    derived=by_name(
        _derived(
            name="update_rms",
            long_name="root mean square update",
            reduction="root mean square",
            formula="update_norm / sqrt(numel)",
        ),
        _derived(
            name="update_ratio",
            long_name="relative update",
            reduction="ratio of norms",
            formula="update_norm / param_norm",
        ),
        _derived(
            name="grad_param_product",
            long_name="product of gradient norm and parameter norm",
            reduction="product of norms",
            formula="grad_norm * param_norm",
            phase=BEFORE,
        ),
        _derived(
            name="effective_lr",
            long_name="effective learning rate",
            reduction="ratio of norms",
            formula="update_norm / grad_norm",
        ),
    ),
)
