"""``/noise``: gradient noise from the micro-batches of a step."""

from __future__ import annotations

from gradscope.schema.variable import BEFORE, NOT_NEGATIVE, SUM, Group, Variable, by_name

NOISE = Group(
    "noise",
    ("step", "param"),
    "Gradient noise from the micro-batches of a step (arXiv 1812.06162, appendix A).",
    by_name(
        Variable(
            name="microbatch_grad_sq",
            dims=("step", "param"),
            long_name="mean squared norm of the micro-batch gradients",
            reduction="mean over micro-batches",
            formula="mean_i |g_i|^2, g_i of the mean loss of a micro-batch",
            phase=BEFORE,
            aggregation=SUM,
            scale="log",
            bounds=NOT_NEGATIVE,
        ),
        Variable(
            name="noise_scale",
            dims=("step", "param"),
            long_name="simple gradient noise scale, in examples",
            reduction="ratio of sums",
            formula="tr(Sigma) / |G|^2",
            phase=BEFORE,
        ),
    ),
)
