"""How a recording ends: properly, or because of an error of our own; and what it has cost."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradscope.errors import is_of_signal, warn
from gradscope.record.events import StepEvents
from gradscope.record.guard import signals_later
from gradscope.record.model.optimizers.unwrap import idle_message
from gradscope.store.write.writer import RecordingWriter


@dataclass(frozen=True)
class RecordingCost:
    """What recording took so far.

    ``bytes`` written, ``seconds`` of the host on the training thread, and bytes of ``memory`` held
    on the device: a copy of the parameters, buffers of fixed size, and what was asked for beside
    (own second moments, signs of sketches).
    """

    bytes: int
    seconds: float
    memory: int


def finish(
    events: StepEvents, writer: RecordingWriter, status: str | None, leave: Callable[[], None]
) -> None:
    """Leave, hand over what is left and close the file.

    Without a status, a last loss that is not finite makes it "diverged", else it is "finished". A
    Ctrl-C meanwhile is raised when the rows are with the writer, and the file is closed first.
    """
    try:
        with signals_later():
            leave()
            status = _hand_over(events, writer, status)
    except BaseException as error:
        if not isinstance(error, Exception) or is_of_signal(error):
            writer.close(status=status or "interrupted")
            events.detach()
            events.release()
        raise
    try:
        writer.close(status=status)
    finally:
        events.release()


def _hand_over(events: StepEvents, writer: RecordingWriter, status: str | None) -> str:
    idle, n_steps = events.clock.idle, events.clock.n_finished
    if n_steps and 0 < len(idle) < len(events.optimizers):
        warn(idle_message(events.optimizers, idle, n_steps))
    events.close()
    writer.set_attrs(**last_attributes(events))
    is_finite = math.isfinite(float(events.rows.last_loss))
    return status or ("finished" if is_finite else "diverged")


def abandon(events: StepEvents, writer: RecordingWriter, reason: str) -> None:
    """Close the file after an error of our own, with the rows that can still be saved."""
    with contextlib.suppress(Exception):
        events.detach()
    with contextlib.suppress(Exception):
        events.close(has_failed=True)
    with contextlib.suppress(Exception):
        writer.set_attrs(**last_attributes(events))
    writer.set_attrs(failure=reason)
    writer.close(status="failed")
    with contextlib.suppress(Exception):
        events.release()


def last_attributes(events: StepEvents) -> dict[str, Any]:
    """Return the root attributes that are known only at the end."""
    attributes: dict[str, Any] = {
        **events.rows.attributes,
        **events.ranks.attributes,
    }
    nonfinite = events.tables.first_nonfinite
    if nonfinite is not None:
        step, layer = nonfinite
        attributes |= {"first_nonfinite_step": step, "first_nonfinite_layer": layer}
    return attributes
