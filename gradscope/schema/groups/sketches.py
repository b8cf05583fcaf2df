"""``/sketches``: count sketches of gradients, whose inner products estimate those of gradients."""

from __future__ import annotations

from gradscope.schema.variable import BEFORE, SUM, Group, Variable, by_name

N_SKETCHES = 64
"""Buckets of the count sketch of each parameter."""

SKETCHES = Group(
    "sketches",
    ("step", "param"),
    "Count sketches of each gradient (arXiv 0902.2206); their inner products estimate those of "
    "the gradients.",
    by_name(
        Variable(
            name="grad_sketch",
            dims=("step", "param", "sketch"),
            long_name="count sketch of the gradient",
            reduction="signed sum over the entries of a bucket",
            formula=f"sum_(i mod {N_SKETCHES} = j) s_i g_i, s_i = +-1",
            phase=BEFORE,
            aggregation=SUM,
            scale="signed",
        ),
    ),
)
