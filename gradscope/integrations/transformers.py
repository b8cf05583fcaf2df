"""Record under transformers' ``Trainer``: a `TrainerCallback` around `gradscope.Recorder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gradscope.errors import imports_of_extra
from gradscope.integrations.callback import RecordedTraining

with imports_of_extra("transformers"):
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

STATE_NAME = "gradscope.pt"
"""File of a checkpoint's folder that holds the recorder's state."""


class RecorderCallback(RecordedTraining, TrainerCallback):
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
    ``logging_steps``; ``eval_loss`` and other metrics of ``evaluate`` go to ``/evaluation``. Every
    checkpoint gets the recorder's state, ``gradscope.pt``; with ``if_exists="resume"``,
    ``train(resume_from_checkpoint=…)`` goes on in the same recording. A training that ends in an
    exception calls no callback: `close` it, or its rows up to the last flush stay readable.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Attach to the model and the optimizer; steps go on from those of the checkpoint."""
        stored = _checkpoint(args, state) / STATE_NAME
        if state.global_step and stored.is_file():
            self._restored = torch.load(stored, weights_only=True)
        optimizer = kwargs["optimizer"]
        self._begin(
            kwargs["model"],
            optimizer,
            grad_scaler=getattr(optimizer, "scaler", None),
            n_steps=state.global_step,
        )
        assert self.recorder is not None
        self.recorder.describe(seed=args.seed)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the recorder's state beside the checkpoint."""
        folder = _checkpoint(args, state)
        if self.recorder is not None and state.is_world_process_zero and folder.is_dir():
            torch.save(self.recorder.state_dict(), folder / STATE_NAME)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log what the evaluation found, at the last finished step."""
        self._log(kwargs.get("metrics") or {}, ("eval_",))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Finish the recording."""
        self.close()


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
