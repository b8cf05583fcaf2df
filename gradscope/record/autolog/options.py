"""Options and results of recording a script. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ScriptOptions:
    """Options of `gradscope.Recorder` for every training in a script.

    ``is_chosen`` tells whether the user chose the path. One of ours gives way to a recording that
    another process has begun in the same second.
    """

    path: Path
    every: str | int = "auto"
    record: str = "standard"
    max_overhead: float | None = None
    if_exists: str = "error"
    is_chosen: bool = True
    name: str = ""
    tags: tuple[str, ...] = ()
    notes: str = ""
    stop_on: tuple[str, ...] = ()
    """Health rules, or severities, that end the script."""

    @property
    def of_recorder(self) -> dict[str, Any]:
        """Arguments of every `gradscope.Recorder`."""
        names = ("every", "record", "max_overhead", "if_exists", "name", "tags", "notes")
        return {name: getattr(self, name) for name in names}

    def path_of(self, number: int) -> Path:
        """Return where the ``number``-th training goes: ``run.h5``, ``run-2.h5`` and so on."""
        if number == 1:
            return self.path
        return self.path.with_name(f"{self.path.stem}-{number}{self.path.suffix}")


@dataclass(frozen=True)
class Recorded:
    """One training that was recorded."""

    path: Path
    n_steps: int
    model: str
    optimizer: str


def why_nothing(problems: Sequence[str], *, records_itself: bool, n_optimizers: int) -> str:
    """Say why a script has left no recording."""
    if problems:
        return "; ".join(problems)
    if records_itself:
        return "the script attaches a recorder of its own"
    if not n_optimizers:
        return (
            "the script made no torch optimizer in this process (what it updates by hand, or "
            "by an optimizer of another library, as fastai and Keras have, is not seen)"
        )
    return (
        f"{n_optimizers} optimizer{'s were' * (n_optimizers > 1) or ' was'} made "
        "but took no step that can be seen in this process (processes that a script starts "
        "itself, and steps compiled as a whole, are not watched)"
    )
