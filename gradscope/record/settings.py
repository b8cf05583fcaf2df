"""What is recorded: a user's words, checked once and kept as one frozen object."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from gradscope import schema
from gradscope.errors import unknown
from gradscope.record.measure.custom import Measure
from gradscope.record.model.params import Selector, make_selector
from gradscope.record.rows.budget import Budget, check_share
from gradscope.record.rows.cadence import Cadence, make_cadence

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
_TAKEN = {*schema.INDEXES, *schema.PARAM_COORDINATES, *schema.LAYER_COORDINATES} | {
    name for group in schema.GROUPS.values() for name in group.variables
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
    custom: Mapping[str, Measure]
    budget: Budget | None = None
    """What thins the cadence, if the user has set a largest cost."""


def make_settings(
    *,
    every: str | int | Cadence,
    record: str | Collection[str],
    include: Selector,
    exclude: Selector,
    second_moment: str,
    histogram_every: int | None,
    flight_recorder: int | None,
    custom: Mapping[str, Measure] | None = None,
    max_overhead: float | None = None,
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
    custom = check_custom(custom or {})
    n_flight = _count("flight_recorder", flight_recorder, FLIGHT_STEPS.get(preset, 0), 0)
    budget = None if max_overhead is None else _budget(max_overhead, every, n_flight)
    return Settings(
        cadence=budget or make_cadence(every),
        groups=frozenset({*choose_groups(record), *(("custom",) if custom else ())}),
        is_selected=make_selector(include, exclude),
        histogram_every=_count("histogram_every", histogram_every, histograms, 1),
        flight_recorder=n_flight,
        keeps_own=second_moment == "own",
        custom=custom,
        budget=budget,
    )


def _budget(share: float, every: str | int | Cadence, n_flight: int) -> Budget:
    share = check_share(share)
    if every != "auto":
        raise ValueError("`max_overhead` chooses which steps are recorded; leave out `every`")
    if n_flight:
        raise ValueError(
            "the flight recorder measures every step, whatever it costs; with `max_overhead`, set "
            "flight_recorder=0"
        )
    return Budget(share, make_cadence(every))


def check_custom(functions: Mapping[str, Measure]) -> dict[str, Measure]:
    """Check the user's own measures.

    Raises
    ------
    TypeError
        If it is no mapping of names to callables.
    ValueError
        If a name is no identifier, or is that of a quantity of the schema.
    """
    if not isinstance(functions, Mapping):
        raise TypeError(f"`custom` must be a dict of names to functions; got {type(functions)}")
    for name, function in functions.items():
        if not isinstance(name, str) or not name.isidentifier() or name in _TAKEN:
            raise ValueError(
                f"{name!r} cannot name a custom measure; use an identifier that is not the name of "
                "a quantity, a dimension or a coordinate of gradscope"
            )
        if not callable(function):
            raise TypeError(f"`custom[{name!r}]` must be callable; got {type(function)}")
    return dict(functions)


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
