"""Record under Lightning: a `Callback` around `gradscope.Recorder`.

Works with automatic and manual optimization, gradient accumulation, clipping and mixed precision.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from gradscope.record.autolog.backward_loss import LossWatch
from gradscope.record.recorder import Recorder

VALIDATION = re.compile(r"^valid(ation)?_")
EVALUATION = re.compile(r"(train|val|test|eval)_")


class RecorderCallback(Callback):
    """Record every fit.

    Parameters
    ----------
    path : path-like, optional
        The recording; ``runs/<model>-<UTC>.h5`` by default.
    **options
        Of `gradscope.Recorder`: ``every``, ``record``, ``include``, ``if_exists`` and so on.

    Attributes
    ----------
    recorder : Recorder or None
        Of the present or last fit, for ``log``, ``path`` and ``plot``.

    Notes
    -----
    ``/training`` gets the loss of every step: the sum of what ``backward`` was called on, which
    under accumulation is the mean over micro-batches. Metrics that are logged as ``val_…`` or
    ``valid_…`` go to ``/evaluation``.
    """

    def __init__(self, path: str | Path | None = None, **options: Any) -> None:
        self.recorder: Recorder | None = None
        self._path, self._options = path, options
        self._losses = LossWatch()
        self._stop_watching: Callable[[], None] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach to the module and the optimizers of the trainer."""
        optimizers = {str(i): optimizer for i, optimizer in enumerate(trainer.optimizers)}
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.recorder = Recorder(
            pl_module,
            trainer.optimizers[0] if len(optimizers) == 1 else optimizers,
            self._path,
            grad_scaler=scaler,
            **self._options,
        )
        self._losses.turn_to(self.recorder)
        self._stop_watching = self._losses.start()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the validation found, at the last finished step."""
        if self.recorder is None or self._stop_watching is None:
            return  # the sanity check before training
        metrics = {
            VALIDATION.sub("val_", re.sub(r"\W", "_", name)): value
            for name, value in trainer.callback_metrics.items()
        }
        metrics = {name: value for name, value in metrics.items() if EVALUATION.match(name)}
        if metrics:
            self.recorder.log(**metrics)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the recording of a fit that failed or was interrupted."""
        self._close("interrupted" if isinstance(exception, KeyboardInterrupt) else "failed")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish the recording."""
        self._close()

    def _close(self, status: str | None = None) -> None:
        if self.recorder is None or self._stop_watching is None:
            return
        self._stop_watching()
        self._stop_watching = None
        self._losses.forget(self.recorder)
        self.recorder.close(status)
