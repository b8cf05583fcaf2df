"""Record under Lightning: a `Callback` around `gradscope.Recorder`.

Works with automatic and manual optimization, gradient accumulation, clipping and mixed precision.
"""

from __future__ import annotations

import re
from typing import Any

from gradscope.errors import imports_of_extra
from gradscope.integrations.callback import RecordedTraining

with imports_of_extra("lightning"):
    from lightning.pytorch import Callback, LightningModule, Trainer

_VALIDATION = re.compile(r"^valid(ation)?(?=\W|_)")
_EVALUATION = ("train_", "val_", "test_", "eval_")


class RecorderCallback(RecordedTraining, Callback):
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
    ``valid_…`` go to ``/evaluation``. Checkpoints of the trainer hold the recorder's state; with
    ``if_exists="resume"``, ``fit(ckpt_path=…)`` goes on in the same recording.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach to the module and the optimizers of the trainer."""
        several = {str(i): optimizer for i, optimizer in enumerate(trainer.optimizers)}
        self._begin(
            pl_module,
            trainer.optimizers[0] if len(several) == 1 else several,
            grad_scaler=getattr(trainer.precision_plugin, "scaler", None),
            n_steps=trainer.global_step,
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the validation found, at the last finished step."""
        found = {_VALIDATION.sub("val", k): v for k, v in trainer.callback_metrics.items()}
        self._log(found, _EVALUATION)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the recording of a fit that failed or was interrupted."""
        self.close("interrupted" if isinstance(exception, KeyboardInterrupt) else "failed")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish the recording."""
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the recorder's state for the trainer's checkpoint."""
        return {} if self.recorder is None else self.recorder.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the recorder's state from the checkpoint that the next fit goes on from."""
        self._restored = state_dict or None
