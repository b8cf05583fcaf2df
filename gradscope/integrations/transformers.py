"""Record under transformers' ``Trainer``: a `TrainerCallback` around `gradscope.Recorder`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gradscope.record.autolog.backward_loss import LossWatch
from gradscope.record.recorder import Recorder


class RecorderCallback(TrainerCallback):
    """Record ``Trainer.train``.

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

    Notes
    -----
    ``/training`` gets the loss of every step, the mean over micro-batches, not the mean over
    ``logging_steps``; ``eval_loss`` and other metrics of ``evaluate`` go to ``/evaluation``. A
    training that ends in an exception calls no callback: `close` it, or its rows up to the last
    flush stay readable.
    """

    def __init__(self, path: str | Path | None = None, **options: Any) -> None:
        self.recorder: Recorder | None = None
        self._path, self._options = path, options
        self._losses = LossWatch()
        self._stop_watching: Callable[[], None] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Attach to the model and the optimizer inside Accelerate's wrapper."""
        self.close("interrupted")
        wrapper = kwargs["optimizer"]
        self.recorder = Recorder(
            kwargs["model"],
            getattr(wrapper, "optimizer", wrapper),
            self._path,
            grad_scaler=getattr(wrapper, "scaler", None),
            **self._options,
        )
        self.recorder.describe(seed=args.seed)
        self._losses.turn_to(self.recorder)
        self._stop_watching = self._losses.start()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log what the evaluation found, at the last finished step."""
        if self.recorder is None or self._stop_watching is None:
            return
        found = {re.sub(r"\W", "_", k): v for k, v in (kwargs.get("metrics") or {}).items()}
        metrics = {k: v for k, v in found.items() if k.startswith("eval_")}
        if metrics:
            self.recorder.log(**metrics)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Finish the recording."""
        self.close()

    def close(self, status: str | None = None) -> None:
        """Finish a recording that is still open, as after an exception in ``train``."""
        if self.recorder is None or self._stop_watching is None:
            return
        self._stop_watching()
        self._stop_watching = None
        self._losses.forget(self.recorder)
        self.recorder.close(status)
