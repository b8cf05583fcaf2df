"""Built-in training loop, an ordinary client of the public `Recorder`.

It uses no private interface of the recorder.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradscope.experiments.config import Config
from gradscope.experiments.training.checkpoint import (
    Checkpoint,
    check_checkpoints,
    checkpoint_path,
    save_checkpoint,
    take_checkpoint,
)
from gradscope.experiments.training.environment import numerics
from gradscope.experiments.training.processes import joined
from gradscope.experiments.training.setup import Experiment, build_experiment
from gradscope.experiments.training.steps import CudaGraph, GraphedStep, take_step
from gradscope.record.recorder import Recorder

REPORT_SECONDS = 0.1
"""Shortest interval at which the loss is fetched from the device and reported."""
CHECK_STEPS = {"cpu": 1, "cuda": 50}
"""Non-finite losses are detected at multiples of this step, the same in every run."""


@dataclass(frozen=True)
class Progress:
    """Progress of a run; ``metrics`` are those of the latest evaluation."""

    step: int
    n_steps: int
    steps_per_epoch: int
    loss: float
    seconds: float
    images_per_second: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run.

    Parameters
    ----------
    config : Config
        As resolved.
    status : str
        ``finished``, ``interrupted`` or ``diverged``.
    step : int
        Steps taken.
    metrics : dict of str to float
        The last evaluation; with ``test_*`` where the run finished.
    seconds : float
        From the first step to the last.
    first_nonfinite : tuple of int and str, optional
        Step and layer of the first gradient that was not finite, as recorded.
    record_seconds : float
        What recording took of the training thread.
    """

    config: Config
    status: str
    step: int
    metrics: dict[str, float]
    seconds: float
    first_nonfinite: tuple[int, str] | None = None
    record_seconds: float = 0.0


@dataclass(frozen=True)
class Observers:
    """Callbacks of a run."""

    on_start: Callable[[Experiment], None] = lambda experiment: None
    on_progress: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False
    why_stopped: Callable[[], str] = lambda: ""
    """What the recording says of a stop; empty for a user's own."""


def train(
    config: Config,
    path: Path | None,
    *,
    if_exists: str = "error",
    observers: Observers | None = None,
    checkpoint_every: int | None = None,
    resume: Checkpoint | None = None,
    story: Mapping[str, Any] | None = None,
) -> Outcome:
    """Train as the configuration says and record it.

    Parameters
    ----------
    config : Config
        The experiment.
    path : Path or None
        Where the recording goes; None trains without recording, bit for bit the same.
    if_exists : str
        What happens to a recording at ``path``: ``error`` or ``overwrite``; with ``resume`` it is
        continued.
    observers : Observers, optional
        Told about the run.
    checkpoint_every : int, optional
        Steps between checkpoints, which lie beside the recording; an interrupted run leaves one
        too, one that finished or diverged none.
    resume : Checkpoint, optional
        Go on from there, bit for bit, and with the recording at ``path``.
    story : mapping, optional
        ``name``, ``tags``, ``notes`` and ``on_health`` of the `gradscope.Recorder`.

    Raises
    ------
    GradscopeError
        If the configuration, the data, the checkpoint or the output cannot be used.
    """
    if resume is not None:
        resume.require(config)
        checkpoint_every, if_exists = checkpoint_every or resume.every, "resume"
    with (
        joined(config.device) as processes,
        numerics(seed=config.seed, deterministic=config.deterministic),
    ):
        check_checkpoints(checkpoint_every, path)
        experiment = build_experiment(config, processes)
        if processes.rank:  # the weights are the same everywhere, dropout is not
            torch.manual_seed(config.seed + processes.rank)
        run = _Run(experiment, observers or Observers(), checkpoint_every)
        if path is None:
            return run.train(None)
        return _record(run, path, if_exists, resume, story or {})


def _record(
    run: _Run, path: Path, if_exists: str, resume: Checkpoint | None, story: Mapping[str, Any]
) -> Outcome:
    """Train with a recorder, from the start or from a checkpoint."""
    experiment = run.experiment
    with Recorder(
        experiment.model,
        experiment.optimizer,
        path,
        grad_scaler=experiment.scaler if experiment.scaler.is_enabled() else None,
        every=experiment.config.every,
        if_exists=if_exists,
        **story,
    ) as recorder:
        if resume is None:
            _describe(recorder, experiment.config)
        else:
            resume.restore(experiment, recorder)
            run.step, run.metrics = resume.step, resume.metrics
        outcome = run.train(recorder)
        if outcome.status == "interrupted" and (why := run.observers.why_stopped()):
            recorder.describe(stop_reason=why)
        recorder.close(outcome.status)
    if outcome.status != "interrupted" and experiment.processes.rank == 0:
        checkpoint_path(path).unlink(missing_ok=True)
    return outcome


def _describe(recorder: Recorder, config: Config) -> None:
    recorder.describe(
        seed=config.seed,
        dataset_name=config.dataset,
        model_name=config.model,
        config_json=config.to_json(),
    )


@dataclass
class _Run:
    """A run in progress."""

    experiment: Experiment
    observers: Observers
    checkpoint_every: int | None = None
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    report_due: float = 0.0
    started: float = 0.0
    n_before: int = 0

    def train(self, recorder: Recorder | None) -> Outcome:
        self.observers.on_start(self.experiment)
        self.experiment.model.train()
        if self.step == 0:
            self.evaluate(recorder, "train", "val")
        self.started, self.n_before = time.perf_counter(), self.step
        status = self.take_steps(recorder)
        seconds = time.perf_counter() - self.started
        if status == "finished":
            self.evaluate(recorder, "test")
        elif status == "interrupted":
            self.keep(recorder)
        return Outcome(
            config=self.experiment.config,
            status=status,
            step=self.step,
            metrics=self.metrics,
            seconds=seconds,
            first_nonfinite=recorder.first_nonfinite if recorder else None,
            record_seconds=recorder.cost.seconds if recorder else 0.0,
        )

    def take_steps(self, recorder: Recorder | None) -> str:
        experiment = self.experiment
        check_steps = CHECK_STEPS.get(experiment.device.type, 1)
        stop_steps = 1 if experiment.processes.size == 1 else check_steps
        per_epoch = experiment.stream.steps_per_epoch
        take = self.choose_step(recorder)
        while self.step < experiment.n_steps:
            if self.step % stop_steps == 0 and self.is_stopped():
                return "interrupted"
            loss = take(self.step + 1)
            self.step += 1
            if recorder is not None:
                recorder.log(loss=loss)
            is_last = self.step == experiment.n_steps
            is_checked = self.step % check_steps == 0 or is_last
            if is_checked and not torch.isfinite(experiment.processes.sum(loss)):
                return "diverged"
            ends_epoch = self.step % per_epoch == 0 or is_last
            if ends_epoch:
                self.evaluate(recorder, "train", "val")
            self.report(loss, is_due=ends_epoch)
            if self.checkpoint_every and self.step % self.checkpoint_every == 0 and not is_last:
                self.keep(recorder)
        return "finished"

    def choose_step(self, recorder: Recorder | None) -> Callable[[int], Tensor]:
        if not self.experiment.config.cuda_graph:
            return functools.partial(take_step, self.experiment)
        on_replay = recorder.advance if recorder is not None else lambda: None
        return GraphedStep(self.experiment, on_replay, CudaGraph())

    def is_stopped(self) -> bool:
        """Return whether to stop; the result is the same in all processes."""
        wish = self.observers.should_stop()
        if self.experiment.processes.size == 1:
            return wish
        wishes = torch.tensor(float(wish), device=self.experiment.device)
        return self.experiment.processes.sum(wishes).item() > 0

    def keep(self, recorder: Recorder | None) -> None:
        if self.checkpoint_every is None or recorder is None:
            return
        checkpoint = take_checkpoint(
            self.experiment, recorder, every=self.checkpoint_every, metrics=self.metrics
        )
        if self.experiment.processes.rank == 0:
            save_checkpoint(checkpoint, checkpoint_path(recorder.path))

    def evaluate(self, recorder: Recorder | None, *splits: str) -> None:
        found: dict[str, float] = {}
        for split in splits:
            found |= self.experiment.evaluate(split)
        self.metrics = self.metrics | found
        if recorder is not None:
            recorder.log(**found)

    def report(self, loss: Tensor, *, is_due: bool) -> None:
        now = time.perf_counter()
        if now < self.report_due and not is_due:
            return
        self.report_due = now + REPORT_SECONDS
        seconds, n_steps = max(now - self.started, 1e-9), self.step - self.n_before
        self.observers.on_progress(
            Progress(
                step=self.step,
                n_steps=self.experiment.n_steps,
                steps_per_epoch=self.experiment.stream.steps_per_epoch,
                loss=loss.item(),
                seconds=seconds,
                images_per_second=n_steps * self.experiment.stream.batch_size / seconds,
                metrics=self.metrics,
            )
        )
