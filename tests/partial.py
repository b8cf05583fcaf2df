"""Recordings that are being written, or were killed: groups end at different steps."""

from __future__ import annotations

import numpy as np

from gradscope.store.write.writer import RecordingWriter
from tests.helpers import root_attributes, synthetic_columns


def write_partial(path, n_steps, n_layers=5, *, ends=None, change=None, seed=0, **attrs):
    """Write a made-up recording whose groups end as ``ends`` says, {group: last step}.

    ``change`` is called with the columns by group, the coordinates of parameters and of layers,
    before they are written.
    """
    columns, params, layers = synthetic_columns(n_steps, n_layers, seed=seed)
    if change is not None:
        change(columns, params, layers)
    attrs = root_attributes(n_steps) | {"seed": seed} | attrs
    status = attrs.pop("status")
    writer = RecordingWriter(path, attrs=attrs)
    writer.set_axis("param", params)
    writer.set_axis("layer", layers)
    for group, rows in columns.items():
        last = (ends or {}).get(group, n_steps)
        kept = np.asarray(rows["event" if group == "spikes" else "step"]) <= last
        if kept.any():
            writer.append(group, {name: np.asarray(values)[kept] for name, values in rows.items()})
    writer.close(status=status)
    return path
