"""What is done at each event of a training loop: forward, backward, step, log, close.

One attempted step is: forward passes, backward calls, a pre-step hook (gradients, a copy of the
parameters), the optimizer, a post-step hook (updates, moments). A step that a scaler skips ends
without the hooks. A row stays open for late logs and for other optimizers until the next forward
pass, or until an optimizer steps that has stepped already.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradscope.errors import warn
from gradscope.native import cuda_graphs
from gradscope.native.compile_time import working_seconds
from gradscope.record.attach import Attachment
from gradscope.record.clock import StepClock
from gradscope.record.finalize.flight_recorder import FlightRecorder
from gradscope.record.hooks.accumulation import is_in_backward
from gradscope.record.hooks.passes import MAX_WITHOUT_STEP
from gradscope.record.hooks.step_calls import has_closure
from gradscope.record.measure.dense import early_copies
from gradscope.record.model.layers import LayerTable
from gradscope.record.model.optimizers.unwrap import other_step_message, without_step_message
from gradscope.record.pipeline import Pipeline, Stages
from gradscope.record.row import StepRows
from gradscope.record.tables import Tables
from gradscope.store.write.writer import RecordingWriter


class StepEvents:
    """Turns the events of a training loop into rows.

    Parameters
    ----------
    models, optimizers : mappings of names
    stages : Stages
    grad_scaler : torch.amp.GradScaler or None

    Attributes
    ----------
    optimizers : dict of str to Optimizer
        The watched ones.
    rows : StepRows
        The row of the step in progress.
    tables : Tables
        The pipeline in use, and what a checkpoint keeps of it.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        stages: Stages,
        *,
        grad_scaler: Any,
    ) -> None:
        settings = stages.settings
        self.clock = StepClock(
            settings.cadence,
            len(optimizers),
            histogram_every=settings.histogram_every,
            measures_all=settings.flight_recorder > 0,
        )
        self.optimizers, self._stages = dict(optimizers), stages
        self._index = {id(o): i for i, o in enumerate(optimizers.values())}
        self._scalars, self.ranks = stages.scalars, stages.ranks
        self._early: dict[int, Tensor] = {}
        self._attempt: Any = None
        self._captured_optimizer: Any = None
        self._captured_row: dict[str, Any] = {}  # its tensors are filled anew by each replay
        self._has_warned = False
        self._began = time.perf_counter()
        layers = LayerTable(models, self.trained)
        try:
            self._hooks = Attachment(self, layers, stages, grad_scaler=grad_scaler)
            activations = self._hooks.activations
            self.tables = Tables(layers, self.optimizers, activations, self.clock, stages.device)
            self.rows = StepRows(self.optimizers, stages, self.tables, activations, self.clock)
        except BaseException:
            if "_hooks" in vars(self):  # else attaching them has failed
                self._hooks.close()
                self._hooks.release()
            self.optimizers.clear()
            raise

    def trained(self) -> Iterator[Tensor]:
        """Iterate over the parameters of the watched optimizers."""
        groups = (group for o in self.optimizers.values() for group in o.param_groups)
        return (p for group in groups for p in group["params"])

    def begin(self, writer: RecordingWriter) -> None:
        """Take the writer that rows go to; without one nothing can be recorded."""
        n = self._stages.settings.flight_recorder
        flight = FlightRecorder(n, writer) if n else None
        self._stages = replace(self._stages, writer=writer, flight=flight)

    # -- forward and backward

    def on_forward(self) -> bool:
        """Begin a forward pass with gradients; return whether to measure it."""
        if self.clock.is_paused:
            return False
        self._hooks.come_last()
        self.rows.open()
        return self.clock.is_measured or cuda_graphs.is_capturing()

    def on_backward(self) -> None:
        """Begin a backward call that reaches the parameters."""
        passes = self._hooks.activations.passes
        if self.clock.is_paused:
            passes.n_discarded = 0  # steps follow, unseen
            return
        self.rows.open()
        self._hooks.clip.begin_backward(self.trained())
        if passes.n_discarded > MAX_WITHOUT_STEP and not self.clock.n_finished:
            self._warn_once(without_step_message(self.optimizers))

    def on_discard(self) -> None:
        """Forget what earlier backward calls added: their gradients were zeroed."""
        self._hooks.clip.forget()
        self.tables.discard()

    def on_other_step(self, optimizer: Any) -> None:
        """Tell of an optimizer that was not given and steps what is recorded."""
        if self.clock.is_paused or self._has_warned:
            return
        n_steps = self.clock.n_finished
        if self._pipeline is not None:
            self._pipeline.delivery.declare_change(n_steps + 1, "")
        self._warn_once(other_step_message(self.optimizers, optimizer, n_steps))

    def _warn_once(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warn(message)

    # -- the step

    def before_scaler(self, optimizer: Any) -> None:
        """Note what a scaler is about to step."""
        if self.clock.is_paused or id(optimizer) not in self._index:
            return
        self._enter(optimizer)
        scale = self._hooks.scaler.scale
        if scale is not None:
            self._scalars.set("loss_scale", scale)

    def after_scaler(self, optimizer: Any) -> None:
        """End a step that the scaler skipped: no hook of the optimizer came."""
        if self._attempt is optimizer:
            began = working_seconds()
            self._measure_gradients(optimizer, None)
            self._scalars.set("is_skipped", True)
            self._end_step(optimizer, began)

    def before_step(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Measure gradients before a step; with a closure they do not exist yet."""
        if self.clock.is_paused or torch.compiler.is_compiling():
            return
        began = working_seconds()
        self._enter(optimizer)
        if not has_closure(args, kwargs):
            self._measure_gradients(
                optimizer, getattr(optimizer, "grad_scale", None), will_step=True
            )
        elif self.clock.is_measured and self._pipeline is None:  # the closure runs the first pass
            self._early = early_copies(optimizer)
        elif self.clock.is_measured:
            self._prepare(optimizer).stepper.before_step(optimizer)
        self.rows.spend(working_seconds() - began)

    def after_step(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Measure what a step did, and end it."""
        if self.clock.is_paused or self._attempt is None or torch.compiler.is_compiling():
            return
        began = working_seconds()
        if has_closure(args, kwargs):
            self._measure_gradients(optimizer, None, is_after=True)
        found_inf = getattr(optimizer, "found_inf", None)
        self._scalars.set("is_skipped", 0.0 if found_inf is None else found_inf)
        assert self._pipeline is not None
        self._pipeline.after_step(optimizer)
        self._captured_optimizer = optimizer
        self._end_step(optimizer, began)
        self._hooks.come_last(n_running=1)

    def _enter(self, optimizer: Any) -> None:
        """Open a row for the step of an optimizer, or let it join the present one.

        A row that is over leaves with its table of parameters: what needs another begins a new one.
        """
        if self._attempt is not optimizer and not self.clock.is_open:
            number, pipeline = self._index[id(optimizer)], self._pipeline
            table = pipeline.table if pipeline is not None else None
            rivals = table.rivals(number) if table else frozenset()
            if self.clock.needs_row(number, rivals) or (table and table.is_stale(optimizer)):
                self.rows.open()
        self._attempt = optimizer

    def _measure_gradients(
        self,
        optimizer: Any,
        grad_scale: Tensor | None,
        *,
        is_after: bool = False,
        will_step: bool = False,
    ) -> None:
        pipeline = self._prepare(optimizer)
        if self._early:
            pipeline.stepper.adopt(self._early)
            self._early = {}
        pipeline.gradients(optimizer, self.clock, is_after=is_after, will_step=will_step)
        pipeline.stepper.update_own(grad_scale, getattr(optimizer, "found_inf", None))
        if grad_scale is not None:
            self._scalars.set_fact("grad_scale", grad_scale)

    def _end_step(self, optimizer: Any, began: float) -> None:
        """Note what is known right after a step."""
        assert self._pipeline is not None
        owners = self._pipeline.table.owners
        coefficient = self.rows.facts.clip_coefficient(self._hooks.clip, optimizer, owners)
        known = {} if coefficient is None else {"clip_coefficient": coefficient}
        activations = self._hooks.activations
        if self.rows.wants_layers(self.clock.is_measured):
            activations.taps.check_once(has_backward=activations.passes.n_counted > 0)
        is_capturing = cuda_graphs.is_capturing()
        if is_capturing:
            known |= self.rows.take_passes()
            is_skipped = {} if self._hooks.scaler.scale is not None else {"is_skipped": 0.0}
            self._captured_row = known | is_skipped
        for name, value in known.items():
            self._scalars.set(name, value)
        self._close_step(optimizer, began)
        if not (is_capturing or is_in_backward()):  # else passes of this step are still going on
            self.rows.finish()
        if is_capturing:  # nothing was done yet: the first replay is this step
            self.rows.drop()
        activations.taps.is_on = self.rows.wants_layers(self.clock.next_is_measured())

    def _close_step(self, optimizer: Any, began: float) -> None:
        self.clock.end(self._index[id(optimizer)])
        self._attempt = None
        self.rows.facts.note(self.clock)
        self._scalars.set("wall_time", time.perf_counter() - self._began)
        self.rows.spend(working_seconds() - began + self._hooks.activations.take_seconds())

    def advance(self) -> None:
        """Count one replay of a captured graph as a step, and take what it measured."""
        pipeline = self.tables.captured()
        if self.clock.is_paused:
            return
        began = working_seconds()
        self.rows.open()
        self.rows.is_unfinished = False
        if self.clock.is_measured:
            pipeline.advance(self.clock)
        for name, value in self._captured_row.items():
            self._scalars.set(name, value)
        self._close_step(self._captured_optimizer, began)

    # -- out

    @property
    def _pipeline(self) -> Pipeline | None:
        return self.tables.pipeline

    def _prepare(self, optimizer: Any) -> Pipeline:
        return self.tables.prepare(optimizer, self._stages, self.rows.send_all)

    def detach(self) -> None:
        """Remove every hook."""
        self._hooks.close()
        self.tables.close()

    def close(self, *, has_failed: bool = False) -> None:
        """Remove every hook and hand over what is left."""
        has_waited = self.clock.is_open and self.clock.n_finished == 0 and not has_failed
        if has_waited and max(self._hooks.activations.passes.n_calls, self.rows.n_losses) > 1:
            self._warn_once(without_step_message(self.optimizers))
        self.detach()
        if self.clock.is_open:  # a step that never came to its end leaves no row
            self.rows.drop()
        self.rows.send_all(is_last=not self.ranks.is_alone)
        self.ranks.close()

    def release(self) -> None:
        """Let go of models and optimizers, which a recorder that is kept would hold, or a cycle."""
        self._attempt = self._captured_optimizer = None
        self._captured_row, self._early = {}, {}
        self.tables.release()
        self._hooks.release()
        self.optimizers.clear()
        vars(self).pop("_stages", None)  # holds what the user gave to be called
