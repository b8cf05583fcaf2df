"""What a notebook asks of a recorder that runs: its data, a picture, a fresh start."""

from __future__ import annotations

import types
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

if TYPE_CHECKING:
    import xarray

_attached: weakref.WeakKeyDictionary[torch.optim.Optimizer, LiveRecording] = (
    weakref.WeakKeyDictionary()
)


def register(recorder: LiveRecording, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Remember which recorder watches some optimizers."""
    for optimizer in optimizers:
        _attached[optimizer] = recorder


def is_attached(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a recorder watches an optimizer."""
    return optimizer in _attached


def detach_others(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Close a recorder that still watches one of these: a notebook's cell was run again."""
    for optimizer in optimizers:
        other = _attached.get(optimizer)
        if other is not None:
            other.close("interrupted")


def forget(recorder: LiveRecording) -> None:
    """Forget a recorder that is closed."""
    for optimizer in [o for o, other in _attached.items() if other is recorder]:
        del _attached[optimizer]


class LiveRecording(ABC):
    """A recording that is being written, as a context manager that can be read and drawn."""

    path: Path

    @abstractmethod
    def flush(self) -> None:
        """Bring everything recorded so far to disk."""

    @abstractmethod
    def close(self, status: str | None = None) -> None:
        """Finish the recording."""

    @property
    def data(self) -> xarray.DataTree:
        """The recording so far, as `gradscope.open_recording` gives it."""
        from gradscope.store.read.recording import open_recording

        self.flush()
        return open_recording(self.path)

    def plot(self, **options: Any) -> Any:
        """Draw the heatmap of what is recorded so far; options of `plots.figure.View`."""
        from gradscope.plots.figure import View, plot_recording

        return plot_recording(self.data, View(**options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: types.TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.close("interrupted" if issubclass(kind, KeyboardInterrupt) else "failed")
