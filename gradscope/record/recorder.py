"""`Recorder`: one line in a training loop, and every layer is recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gradscope import schema
from gradscope.errors import UsageError
from gradscope.record.distributed.ranks import Ranks
from gradscope.record.distributed.writer import open_writer
from gradscope.record.ending import RecordingCost
from gradscope.record.events import StepEvents
from gradscope.record.guard import Guard
from gradscope.record.health.watch import HealthWatch, OnHealth, check_callback
from gradscope.record.live import LiveRecording, detach_others, register, until_closed
from gradscope.record.measure.choose import choose_backend
from gradscope.record.measure.custom import Measure
from gradscope.record.model.modules import as_models, device_of
from gradscope.record.model.optimizers.unwrap import as_optimizers, warn_of_strangers
from gradscope.record.model.params import Selector
from gradscope.record.pipeline import Stages
from gradscope.record.provenance import describe_run, describe_story
from gradscope.record.rows.cadence import Cadence
from gradscope.record.rows.logged import LoggedNames
from gradscope.record.rows.scalars import ScalarRows
from gradscope.record.rows.stream import CAPACITY
from gradscope.record.settings import make_settings
from gradscope.store.format.segments import finished_path


class Recorder(LiveRecording):
    """Record gradients, second moments, updates and activations of every layer while a loop trains.

    Weights are bit-identical with and without it: nothing random is drawn, nothing on the model,
    the optimizer's state or the gradients is changed, and nothing is stored on the model.

    Parameters
    ----------
    model : Module or dict of str to Module
        What is trained. Names of several models become prefixes of their parameters.
    optimizer : Optimizer or dict of str to Optimizer
        Any torch optimizer.
    path : path-like, optional
        The recording; ``runs/<model>-<UTC>.h5`` by default.
    grad_scaler : torch.amp.GradScaler, optional
        Needed to see loss scale and skipped steps, and to unscale output gradients.
    every : {"auto"}, int or callable step -> bool
        Which steps get statistics; ``/training`` has a row for every step. "auto" takes each step
        up to 1,000, then about 1,000 log-spaced ones per factor of ten.
    record : {"light", "standard", "full"} or collection of group names
        "light" is training and gradients; "standard" adds second moments, updates, activations,
        histograms; "full" adds sketches, the noise scale and the flight recorder.
    include, exclude : regular expression or callable name -> bool, optional
        Which parameters, by a match anywhere in the name. A layer stays if one of its own does.
    second_moment : {"optimizer", "own"}
        "own" keeps an average of squared gradients (beta2 0.999) where the optimizer has none.
    histogram_every : int, optional
        Every how many recorded rows histograms are taken: 10, with "full" 1.
    flight_recorder : int, optional
        Steps kept in ``/spikes`` around a loss spike or a non-finite value: 0, with "full" 50.
    custom : mapping of str to callable, optional
        Measures of your own, for ``/custom``: ``fn(param, grad, state)`` returns a 0-d tensor.
    max_overhead : float, optional
        Largest cost, such as 0.02, in place of ``every``: after 50 steps, one in K is recorded.
    if_exists : {"error", "overwrite", "resume"}
        What to do about a recording at ``path``. "resume" goes on writing it; `load_state_dict`
        drops the rows beyond the checkpoint; without, steps go on behind the last, with a warning.
    config : mapping, dataclass or Namespace, optional
        Settings of the training, which tools show, compare and group by.
    name, tags, notes : str; tags also a collection of them
        What you call the run, words to group runs by, and what you want to remember.
    on_health : callable of `gradscope.derived.health.rule.Finding`, optional
        Called once for each finding, on a thread of its own; an exception becomes one warning.

    Raises
    ------
    RecordingExistsError
        If a recording stands at ``path`` and ``if_exists`` is "error".
    TypeError, ValueError
        If an argument is of the wrong kind or value.

    Examples
    --------
    >>> import gradscope, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> path = getfixture("tmp_path") / "run.h5"
    >>> with gradscope.Recorder(model, optimizer, path) as recorder:
    ...     for _ in range(3):
    ...         optimizer.zero_grad()
    ...         model(torch.ones(5, 4)).square().mean().backward()
    ...         optimizer.step()
    >>> gradscope.open_recording(path)["gradients/grad_norm"].sizes["step"]
    3
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer],
        path: str | Path | None = None,
        *,
        grad_scaler: Any = None,
        every: str | int | Cadence = "auto",
        record: str | Collection[str] = "standard",
        include: Selector = None,
        exclude: Selector = None,
        second_moment: str = "optimizer",
        histogram_every: int | None = None,
        flight_recorder: int | None = None,
        custom: Mapping[str, Measure] | None = None,
        max_overhead: float | None = None,
        if_exists: str = "error",
        config: Any = None,
        name: str = "",
        tags: str | Collection[str] = (),
        notes: str = "",
        on_health: OnHealth | None = None,
    ) -> None:
        models, optimizers = as_models(model), as_optimizers(optimizer)
        settings = make_settings(
            every=every,
            record=record,
            include=include,
            exclude=exclude,
            second_moment=second_moment,
            histogram_every=histogram_every,
            flight_recorder=flight_recorder,
            custom=custom,
            max_overhead=max_overhead,
        )
        warn_of_strangers(models, optimizers, stacklevel=3)
        story = describe_story(config, name, tags, notes)
        check_callback(on_health)
        attrs = describe_run(models, optimizers, settings, every) | story
        replaced = finished_path(path) if path is not None and if_exists == "overwrite" else None
        detach_others(optimizers.values(), replaced)
        self._ranks = Ranks()
        if callable(every) or settings.budget:
            settings = dataclasses.replace(settings, cadence=self._ranks.decide(settings.cadence))
        self._is_closed, self._guard = False, Guard(self._stop)
        device = device_of(models)
        rows = ScalarRows(CAPACITY, device)
        stages = Stages(settings, choose_backend(device), rows, self._ranks, device, self._guard)
        self._events = StepEvents(models, optimizers, stages, grad_scaler=grad_scaler)
        try:  # the file last: what is wrong with the arguments must not cost a recording
            self._writer = open_writer(self._ranks, path, attrs, if_exists)
            self._names = LoggedNames(str(self._writer.inherited.get("logged_names", "{}")))
            self._events.begin(self._writer)
            self._events.rows.last_step = self._ranks.agree_on_number(self._writer.last_step)
            self._watch = HealthWatch(self._files, None if self._ranks.rank else on_health)
            register(self, optimizers.values())
        except BaseException:
            self._give_up()
            raise

    @property
    def step(self) -> int:
        """Attempted optimizer steps so far."""
        return self._events.clock.n_finished

    @property
    def cost(self) -> RecordingCost:
        """Bytes, host seconds and memory that recording took so far."""
        rows, tables = self._events.rows, self._events.tables
        return RecordingCost(self._writer.bytes_written, rows.seconds, tables.nbytes)

    @property
    def first_nonfinite(self) -> tuple[int, str] | None:
        """Step and layer of the first non-finite gradient, nearest to the loss; None without."""
        if not self._is_closed:
            self._guard.run(self._events.rows.flush)
        return self._events.tables.first_nonfinite

    @until_closed
    def describe(self, **attributes: Any) -> None:
        """Set root attributes: seed, dataset_name, model_name, sample_dims, command and so on.

        Raises
        ------
        ValueError
            If the schema declares no such attribute.
        """
        schema.check_attributes(attributes)
        self._guard.run(lambda: self._writer.set_attrs(**attributes))

    @until_closed
    def log(self, **values: Any) -> None:
        """Add numbers to the step in progress, or to the last finished one until the next forward.

        Names that begin with ``train_``, ``val_``, ``test_`` or ``eval_`` go to ``/evaluation``, at
        the last finished step (0 before the first); all others to ``/training``.

        Parameters
        ----------
        **values : float, int or tensor of one element
            Tensors on an accelerator are copied there and cost no synchronisation.

        Raises
        ------
        TypeError, ValueError
            If a value is not one number.
        """
        self._guard.run(self._log, *self._names.part(values))

    def _log(self, evaluation: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        self._events.rows.go_on()
        if (names := self._names.news()) is not None:
            self._writer.set_attrs(logged_names=names)
        for name, value in training.items():
            self._events.rows.log(name, value)
        if evaluation:
            plain = {
                n: v.detach() if isinstance(v, torch.Tensor) else v for n, v in evaluation.items()
            }
            rows = {name: np.array([float(value)]) for name, value in plain.items()}
            self._writer.append("evaluation", {"step": np.array([self.step]), **rows})

    def pause(self) -> None:
        """Stop counting and measuring steps until `unpause`."""
        self._events.clock.pause()

    def unpause(self) -> None:
        """Go on after `pause`."""
        self._events.clock.unpause()

    @until_closed
    def advance(self) -> None:
        """Count one replay of a CUDA graph as a step: call it after each ``graph.replay()``.

        The graph must hold a whole step, forward to ``optimizer.step()``, captured while the
        recorder is attached, after some eager warm-up steps (recorded as usual). Log tensors after
        this call; a ``GradScaler`` inside the graph is not seen.

        Raises
        ------
        UsageError
            If no captured step was seen.
        """
        self._guard.run(self._events.advance)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint of the training should hold: step and own second moments."""
        return self._guard.run(self._events.tables.state_dict) or self._events.clock.state()

    @until_closed
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned: later rows of the recording are dropped.

        Raises
        ------
        UsageError
            If it is not such a state, or steps were recorded since this recorder was attached.
        """
        if self.step:
            words = "load_state_dict must come before the first step that this recorder sees"
            raise UsageError(f"{words}; got it after step {self.step}")
        self._guard.run(self._load, state)

    def _load(self, state: Mapping[str, Any]) -> None:
        self._events.tables.load_state_dict(state)
        self._events.rows.last_step = 0
        self._writer.set_attrs(resume_step=int(state["step"]))
        self._writer.flush(wait=True)

    def flush(self) -> None:
        """Bring everything recorded so far to disk."""
        if not self._is_closed:
            self._guard.run(self._flush)

    def _flush(self) -> None:
        self._events.rows.flush()
        self._writer.flush(wait=True)
