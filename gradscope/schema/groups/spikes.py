"""``/spikes``: events of the flight recorder, with full-rate rows around each in child groups."""

from __future__ import annotations

from gradscope.schema.variable import AFTER, Group, Variable, by_name

SPIKES = Group(
    "spikes",
    ("event",),
    "Flight recorder: full-rate rows around each event, in child groups named and built as the "
    "top-level ones.",
    by_name(
        Variable(
            name="spike_reason",
            dims=("event",),
            long_name="why it fired: 0 loss spike, 1 non-finite loss, 2 non-finite gradient",
            phase=AFTER,
            dtype="int8",
        ),
    ),
)
