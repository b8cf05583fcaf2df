"""Options of an experiment: kind, limits and validation.

Standard library only: the command line builds its flags from these without loading torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import Field, dataclass, field
from typing import Any

from gradscope.errors import UsageError, unknown


@dataclass(frozen=True)
class Option:
    """Kind, limits and words of one option; ``below`` and ``above`` are exclusive limits."""

    kind: str
    help: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    length: int | None = None

    @property
    def range(self) -> str:
        """Limits in words, such as ``> 0, <= 1e+06``."""
        limits = (">", self.above), (">=", self.low), ("<", self.below), ("<=", self.high)
        return ", ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)

    def admits(self, number: float) -> bool:
        """Whether a number is finite and inside the limits."""
        return (
            math.isfinite(number)
            and (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )


def option(default: Any, kind: str, help: str, **limits: Any) -> Any:
    """Declare a dataclass field that carries its `Option`."""
    return field(default=default, metadata={"option": Option(kind, help, **limits)})


def option_of(config_field: Field[Any]) -> Option:
    """Return the `Option` that a field of a configuration was declared with."""
    declared: Option = config_field.metadata["option"]
    return declared


def read(text: str, kind: str) -> Any:
    """Read a flag's text as its kind; lists are separated by commas.

    What cannot be read so comes back as it is, for `check` to refuse in the same words everywhere.

    Examples
    --------
    >>> read("0.9,0.999", "floats")
    (0.9, 0.999)
    >>> read("fast", "float")
    'fast'
    """
    readers: dict[str, Callable[[str], Any]] = {
        "float": float,
        "int": int,
        "text": str,
        "floats": lambda words: tuple(float(word) for word in words.split(",")),
        "ints": lambda words: tuple(int(word) for word in words.split(",")),
        "cadence": lambda word: word if word == "auto" else int(word),
    }
    try:
        return readers[kind](text)
    except ValueError:
        return text


def check(config_field: Field[Any], value: Any) -> Any:
    """Return the value in its canonical type, or say what is wrong with it.

    Raises
    ------
    UsageError
        If the value is of another kind, not finite, out of its limits or an unknown choice.
    """
    declared, name = option_of(config_field), config_field.name
    if value is None and config_field.default is None:
        return None
    value = _as_kind(declared, name, value)
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and not declared.admits(number):
            allowed = f"finite and {declared.range}" if declared.range else "finite"
            raise UsageError(f"`{name}` must be {allowed}; got {number:g}")
    if declared.choices and value not in declared.choices:
        raise UsageError(unknown(name, str(value), declared.choices))
    return value


def _as_kind(declared: Option, name: str, value: Any) -> Any:
    words = {
        "float": "a number",
        "int": "a whole number",
        "text": "a text",
        "bool": "true or false",
        "floats": "a list of numbers",
        "ints": "a list of whole numbers",
        "cadence": 'a whole number or "auto"',
    }[declared.kind]
    wrong = UsageError(f"`{name}` must be {words}; got {value!r}")
    if declared.kind in ("floats", "ints"):
        if not isinstance(value, list | tuple):
            raise wrong
        if declared.length is not None and len(value) != declared.length:
            raise UsageError(f"`{name}` must have {declared.length} entries; got {len(value)}")
        single = "float" if declared.kind == "floats" else "int"
        return tuple(_scalar(single, entry, wrong) for entry in value)
    if declared.kind == "cadence":
        return value if value == "auto" else _scalar("int", value, wrong)
    return _scalar(declared.kind, value, wrong)


def _scalar(kind: str, value: Any, wrong: UsageError) -> Any:
    expected: Any = {"float": int | float, "int": int, "text": str, "bool": bool}[kind]
    if not isinstance(value, expected) or (isinstance(value, bool) and kind != "bool"):
        raise wrong
    return float(value) if kind == "float" else value
