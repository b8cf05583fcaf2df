"""``/second_moments``: statistics of the optimizer's raw moments."""

from __future__ import annotations

from functools import partial

from gradscope.schema.variable import (
    AFTER,
    MAXIMUM,
    NOT_NEGATIVE,
    ROOT_SUM_SQUARES,
    UNIT,
    Aggregation,
    Group,
    Variable,
    by_name,
)

_of_moment = partial(Variable, dims=("step", "param"), phase=AFTER)
_MEAN = Aggregation("mean", "numel")

SECOND_MOMENTS = Group(
    "second_moments",
    ("step", "param"),
    "Raw moments of the optimizer after its step; state_step and beta2 correct their bias.",
    by_name(
        _of_moment(
            name="exp_avg_sq_mean",
            long_name="mean second moment",
            reduction="mean",
            formula="sum v / n",
            aggregation=_MEAN,
            scale="log",
        ),
        _of_moment(
            name="exp_avg_sq_max",
            long_name="largest second moment",
            reduction="maximum",
            formula="max v",
            aggregation=MAXIMUM,
            scale="log",
        ),
        _of_moment(
            name="log_exp_avg_sq_mean",
            long_name="mean log second moment",
            reduction="mean over v > 0",
            formula="mean ln v",
            units="nat",
            aggregation=Aggregation("mean", "positive_numel"),
            scale="linear",
        ),
        _of_moment(
            name="log_exp_avg_sq_var",
            long_name="variance of the log second moment",
            reduction="population variance over v > 0",
            formula="var ln v",
            units="nat^2",
            aggregation=Aggregation("log_variance", "positive_numel", ("log_exp_avg_sq_mean",)),
            scale="linear",
        ),
        _of_moment(
            name="exp_avg_sq_zero_fraction",
            long_name="share of second moments that are zero",
            reduction="mean",
            formula="#(v = 0) / n",
            aggregation=_MEAN,
            scale="share",
            bounds=UNIT,
        ),
        _of_moment(
            name="exp_avg_norm",
            long_name="norm of the first moment",
            reduction="root of the sum of squares",
            formula="sqrt(sum m^2)",
            aggregation=ROOT_SUM_SQUARES,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        # m_hat forgets sooner than v_hat: where gradients grew lately, their ratio exceeds 1.
        _of_moment(
            name="signal_fraction",
            long_name="signal share of the moments",
            reduction="ratio of sums",
            formula="sum m_hat^2 / sum v_hat; pure noise gives (1 - beta1) / (1 + beta1), "
            "sudden growth more than 1",
            aggregation=Aggregation("mean", "v_hat_sum"),
            scale="share",
            bounds=NOT_NEGATIVE,
        ),
        _of_moment(
            name="epsilon_fraction",
            long_name="share of entries where epsilon matters",
            reduction="mean",
            formula="#(eps >= 0.1 * v_hat^alpha) / n",
            aggregation=_MEAN,
            scale="share",
            bounds=UNIT,
        ),
        _of_moment(
            name="state_step",
            long_name="steps the optimizer has taken for the parameter",
            dtype="int64",
            aggregation=Aggregation("common"),
            scale="log",
        ),
    ),
    derived=by_name(
        _of_moment(
            name="exp_avg_sq_hat_mean",
            long_name="bias-corrected mean second moment",
            reduction="mean",
            formula="exp_avg_sq_mean / (1 - beta2^state_step)",
            aggregation=_MEAN,
            scale="log",
        ),
    ),
)
