"""``/evaluation``: metrics on the training, validation and test splits."""

from __future__ import annotations

from functools import partial

from gradscope.schema.variable import AFTER, UNIT, Group, Variable, by_name

_SPLITS = {
    "train": "a fixed subset of the training split, eval mode, no augmentation",
    "val": "the validation split",
    "test": "the test split",
}
_metric = partial(
    Variable, dims=("step",), reduction="mean over examples", phase=AFTER, dtype="float64"
)

EVALUATION = Group(
    "evaluation",
    ("step",),
    "Metrics at theta_step; step 0 is before training.",
    by_name(
        *(
            _metric(
                name=f"{split}_loss",
                long_name=f"cross-entropy on {words}",
                units="nat",
                scale="log",
            )
            for split, words in _SPLITS.items()
        ),
        *(
            _metric(
                name=f"{split}_accuracy",
                long_name=f"share of correct predictions on {words}",
                scale="share",
                bounds=UNIT,
            )
            for split, words in _SPLITS.items()
        ),
    ),
    is_open=True,
)
