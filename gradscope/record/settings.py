"""What is recorded: a user's words, checked once and kept as one frozen object."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from gradscope.errors import unknown
from gradscope.record.cadence import Cadence, make_cadence
from gradscope.record.model.params import Selector, make_selector

PRESETS = {
    "light": ("training", "evaluation", "gradients"),
    "standard": (
        "training",
        "evaluation",
        "gradients",
        "second_moments",
        "updates",
        "activations",
        "histograms",
    ),
    "full": (
        "training",
        "evaluation",
        "gradients",
        "second_moments",
        "updates",
        "activations",
        "histograms",
        "sketches",
        "noise",
    ),
}
ALWAYS = {"training", "evaluation"}
HISTOGRAM_EVERY = {"full": 1}
FLIGHT_STEPS = {"full": 50}
"""Rows from one histogram to the next and steps around a spike, where a preset sets its own."""


@dataclass(frozen=True)
class Settings:
    """What is recorded; the fields are arguments of `gradscope.record.recorder.Recorder`."""

    cadence: Cadence
    groups: frozenset[str]
    is_selected: Callable[[str], bool]
    histogram_every: int
    flight_recorder: int
    keeps_own: bool


def make_settings(
    *,
    every: str | int | Cadence,
    record: str | Collection[str],
    include: Selector,
    exclude: Selector,
    second_moment: str,
    histogram_every: int | None,
    flight_recorder: int | None,
) -> Settings:
    """Check the arguments of a `Recorder`.

    Raises
    ------
    TypeError, ValueError
        If one is of the wrong kind or value.
    """
    if second_moment not in ("optimizer", "own"):
        raise ValueError(unknown("value of second_moment", second_moment, ("optimizer", "own")))
    preset = record if isinstance(record, str) else ""
    histograms = HISTOGRAM_EVERY.get(preset, 10)
    return Settings(
        cadence=make_cadence(every),
        groups=frozenset(choose_groups(record)),
        is_selected=make_selector(include, exclude),
        histogram_every=_count("histogram_every", histogram_every, histograms, 1),
        flight_recorder=_count("flight_recorder", flight_recorder, FLIGHT_STEPS.get(preset, 0), 0),
        keeps_own=second_moment == "own",
    )


def choose_groups(record: str | Collection[str]) -> tuple[str, ...]:
    """Turn a preset or a set of group names into the groups to record, in the schema's order.

    Raises
    ------
    ValueError
        If a preset or a group is unknown.
    """
    if isinstance(record, str):
        if record not in PRESETS:
            raise ValueError(unknown("preset of `record`", record, PRESETS))
        return PRESETS[record]
    for name in record:
        if name not in PRESETS["full"]:
            raise ValueError(unknown("group in `record`", name, PRESETS["full"]))
    return tuple(name for name in PRESETS["full"] if name in {*record} | ALWAYS)


def _count(name: str, value: int | None, default: int, least: int) -> int:
    """Check a number of steps; None means the default."""
    if value is None:
        return default
    if not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}; got {value!r}")
    return value
