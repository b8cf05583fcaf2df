"""``/custom``: one number a parameter and step from each function that the user gave."""

from __future__ import annotations

from gradscope.schema.variable import Group

CUSTOM = Group(
    "custom",
    ("step", "param"),
    "What the user's own functions return, one number for each parameter.",
    is_open=True,
)
