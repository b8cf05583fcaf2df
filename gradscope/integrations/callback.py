"""What the callbacks of all frameworks share: begin, losses, metrics, resume, end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gradscope.record.autolog.backward_loss import LossWatch
from gradscope.record.recorder import Recorder


class RecordedTraining:
    """Records one training after the other; a framework's callback says when each begins and ends.

    Parameters
    ----------
    path : path-like, optional
        The recording; ``runs/<model>-<UTC>.h5`` by default.
    **options
        Of `gradscope.Recorder`: ``every``, ``record``, ``include``, ``if_exists`` and so on.

    Attributes
    ----------
    recorder : Recorder or None
        Of the present or last training, for ``log``, ``path`` and ``plot``.
    """

    def __init__(self, path: str | Path | None = None, **options: Any) -> None:
        super().__init__()
        self.recorder: Recorder | None = None
        self._path, self._options = path, options
        self._losses = LossWatch(self._optimizers, lambda _: self.recorder)
        self._is_watching = False
        self._restored: Mapping[str, Any] | None = None

    @property
    def is_recording(self) -> bool:
        """Whether a training is being recorded now."""
        return self._is_watching

    def _optimizers(self) -> list[Optimizer]:
        return [] if self.recorder is None else list(self.recorder._events.optimizers.values())

    def _begin(self, model: nn.Module, optimizer: Any, *, grad_scaler: Any, n_steps: int) -> None:
        """Attach a recorder; steps go on from the checkpoint, or from those the trainer counts."""
        self.close("interrupted")
        self.recorder = Recorder(
            model, optimizer, self._path, grad_scaler=grad_scaler, **self._options
        )
        restored, self._restored = self._restored, None
        if restored is None and n_steps:
            restored = {"step": n_steps, "round": n_steps, "n_recorded": n_steps, "own": {}}
        if restored is not None and restored["step"]:
            self.recorder.load_state_dict(restored)
        self._is_watching = True
        self._losses.start()

    def _log(self, metrics: Mapping[str, Any], prefixes: tuple[str, ...]) -> None:
        """Log the metrics of an evaluation, those of other prefixes left out."""
        named = {re.sub(r"\W", "_", name): value for name, value in metrics.items()}
        wanted = {name: value for name, value in named.items() if name.startswith(prefixes)}
        if wanted and self.is_recording and self.recorder is not None:
            self.recorder.log(**wanted)

    def close(self, status: str | None = None) -> None:
        """Finish a recording that is still open, as after an exception."""
        if self.recorder is None or not self._is_watching:
            return
        self._losses.stop()
        self._is_watching = False
        self._losses.forget(self.recorder)
        self.recorder.close(status)
