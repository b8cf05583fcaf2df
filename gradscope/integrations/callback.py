"""What the callbacks of all frameworks share: begin, losses, metrics, resume, end."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gradscope.record.autolog.backward_loss import LossWatch
from gradscope.record.recorder import Recorder
from gradscope.store.format.segments import part_folder


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
        path, options = self._path, self._options
        if self._is_watching and self.recorder is not None:
            self.close("interrupted")
            path, options = self._anew(self.recorder)
        self.recorder = Recorder(model, optimizer, path, grad_scaler=grad_scaler, **options)
        restored, self._restored = self._restored, None
        if restored is None and n_steps:
            restored = {"step": n_steps, "round": n_steps, "n_recorded": n_steps, "own": {}}
        if restored is not None and restored["step"]:
            self.recorder.load_state_dict(restored)
        self._is_watching = True
        self._losses.start()

    def _anew(self, before: Recorder) -> tuple[str | Path | None, dict[str, Any]]:
        """Return path and options where a trainer begins anew within one training.

        As with a smaller batch, once memory has run out: the first attempt keeps its rows, if it
        has any, and the next one gets a name of its own.
        """
        is_refused = self._path is not None and self._options.get("if_exists", "error") == "error"
        if not is_refused:
            return self._path, self._options
        if not before.step:
            return before.path, {**self._options, "if_exists": "overwrite"}
        path = Path(str(self._path))
        names = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in itertools.count(2))
        return next(
            p for p in names if not p.exists() and not part_folder(p).exists()
        ), self._options

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
