"""``/training``: the loss, the optimizer's hyper-parameters and what recording cost."""

from __future__ import annotations

from functools import partial

from gradscope.schema.variable import AFTER, BEFORE, NOT_NEGATIVE, Group, Variable, by_name

_of_step = partial(Variable, dims=("step",), phase=BEFORE)
_of_group = partial(Variable, dims=("step", "param_group"), phase=BEFORE, dtype="float64")

TRAINING = Group(
    "training",
    ("step",),
    "One row for every attempted optimizer step.",
    by_name(
        _of_step(
            name="loss",
            long_name="training loss of the step",
            reduction="mean over the global batch",
            dtype="float64",
        ),
        _of_step(
            name="is_skipped",
            long_name="step skipped by the gradient scaler",
            phase=AFTER,
            dtype="bool",
        ),
        _of_step(
            name="n_microbatches",
            long_name="backward passes accumulated into the step",
            reduction="count",
            dtype="int32",
            bounds=NOT_NEGATIVE,
        ),
        _of_step(
            name="batch_size",
            long_name="examples in the step",
            reduction="sum over micro-batches",
            source_attribute="batch_size_source",
            dtype="int32",
            bounds=NOT_NEGATIVE,
        ),
        _of_step(name="loss_scale", long_name="scale of the loss in mixed precision", scale="log"),
        _of_step(
            name="total_grad_norm",
            long_name="gradient norm over all parameters, before clipping",
            reduction="root of the sum of squares over parameters",
            formula="sqrt(sum g^2) / clip_coefficient",
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        _of_step(
            name="clip_coefficient",
            long_name="factor that gradient clipping applied",
            formula="min(1, max_norm / total_grad_norm)",
        ),
        _of_step(
            name="optimizer",
            long_name="optimizers that stepped, one bit each; 0 where all did",
            dtype="int64",
        ),
        _of_step(
            name="round",
            long_name="round of the optimizers, ended when each has stepped",
            dtype="int64",
        ),
        _of_step(
            name="wall_time",
            long_name="time since recording began",
            units="s",
            phase=AFTER,
            dtype="float64",
        ),
        _of_step(
            name="record_time",
            long_name="host time that recording took in the step",
            units="s",
            phase=AFTER,
        ),
        _of_group(name="lr", long_name="learning rate", scale="log"),
        _of_group(
            name="alpha",
            long_name="exponent of the second moment",
            formula="u = -lr * m_hat / (v_hat^alpha + eps); Adam 0.5, SGD 0",
        ),
        _of_group(name="beta1", long_name="decay rate of the first moment"),
        _of_group(name="beta2", long_name="decay rate of the second moment"),
        _of_group(name="eps", long_name="epsilon of the optimizer"),
        _of_group(name="weight_decay", long_name="weight decay"),
    ),
    is_open=True,
)
