"""What is done at each event of a training loop: forward, backward, step, log, close.

One attempted step is: forward passes, backward calls, a pre-step hook (gradients, a copy of the
parameters), the optimizer, a post-step hook (updates, moments). A step that a scaler skips ends
without the hooks. A row stays open for late logs and for other optimizers until the next forward
pass, or until an optimizer steps that has stepped already.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradscope.errors import UsageError
from gradscope.record.attach import Attachment
from gradscope.record.clock import StepClock
from gradscope.record.finalize.flight_recorder import FlightRecorder
from gradscope.record.guard import warn
from gradscope.record.hooks import cuda_graphs
from gradscope.record.hooks.grad_clip import Clipping
from gradscope.record.hooks.passes import is_in_backward
from gradscope.record.measure.step import OWN_BETA2, early_copies
from gradscope.record.model.layers import LayerTable
from gradscope.record.model.optimizers.groups import read_groups
from gradscope.record.pipeline import Pipeline, Stages
from gradscope.store.write.writer import RecordingWriter

MAX_WITHOUT_STEP = 100
"""Backward calls that are thrown away with no step in between before a warning says so."""


class StepEvents:
    """Turns the events of a training loop into rows.

    Parameters
    ----------
    models, optimizers : mappings of names
    stages : Stages
    grad_scaler : torch.amp.GradScaler or None

    Attributes
    ----------
    seconds : float
        Host time that recording took so far.
    last_loss : float or Tensor
        The loss logged last.
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
        self.seconds = 0.0
        self.last_loss: Any = 0.0
        self.clock = StepClock(
            settings.cadence,
            len(optimizers),
            histogram_every=settings.histogram_every,
            measures_all=settings.flight_recorder > 0,
        )
        self._optimizers, self._stages = dict(optimizers), stages
        self._index = {id(o): i for i, o in enumerate(optimizers.values())}
        self._scalars, self._ranks = stages.scalars, stages.ranks
        self._layers = LayerTable(models)
        self._pipeline: Pipeline | None = None
        self._resumed: dict[str, Any] = {}
        self._early: dict[int, Tensor] = {}
        self._attempt: Any = None
        self._is_unfinished = False
        self._captured_optimizer: Any = None
        self._captured_row: dict[str, Any] = {}  # its tensors are filled anew by each replay
        self._has_warned = False
        self._clipping: Clipping | None = None  # of the optimizers that share the present row
        self._began = time.perf_counter()
        self._hooks = Attachment(self, self._layers, stages, grad_scaler=grad_scaler)

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The watched optimizers."""
        return list(self._optimizers.values())

    def trained(self) -> Iterator[Tensor]:
        """Iterate over the parameters of the watched optimizers."""
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                yield from group["params"]

    def begin(self, writer: RecordingWriter) -> None:
        """Take the writer that rows go to; without one nothing can be recorded."""
        n = self._stages.settings.flight_recorder
        flight = FlightRecorder(n, writer) if n else None
        self._stages = replace(self._stages, writer=writer, flight=flight)

    # -- rows

    def open_row(self) -> None:
        """Begin the row of the next step, unless one is open already."""
        if self.clock.is_open:
            return
        self._finish_row()
        step = self.clock.step
        if self._pipeline is not None:
            is_due = self._pipeline.stream.send_due(
                step, lambda seconds: self._ranks.is_due(step + 1, seconds)
            )
            capacity = self._pipeline.window_capacity
        else:
            is_due, capacity = self._ranks.is_due(step + 1, 0.0), 1
        if is_due:
            self._ranks.begin_window(step + 1, capacity, self.clock.next_round)
        self.clock.begin()
        self._scalars.open_row(self.clock.step)
        self._scalars.set("round", self.clock.round)
        self._scalars.set_fact("is_recorded", self.clock.is_recorded)
        if self.clock.has_gap:
            self._scalars.set_fact("follows_gap", 1.0)
        self._clipping = None
        self._is_unfinished = True

    def log(self, name: str, value: Any) -> None:
        """Put one number into the row of the step in progress, or of the last finished one."""
        if not len(self._scalars):
            self.open_row()
        self._scalars.set(name, value)
        if name == "loss":
            self._scalars.set_fact("has_loss", 1.0)
            self.last_loss = value.detach() if isinstance(value, Tensor) else value

    def _finish_row(self) -> None:
        """Complete the row of a step that is over with what is known only at its end."""
        if not self._is_unfinished or self.clock.is_open or not len(self._scalars):
            return
        self._is_unfinished = False
        began = time.perf_counter()
        for name, value in self._take_passes().items():
            self._scalars.set(name, value)
        self.seconds += time.perf_counter() - began

    def _take_passes(self) -> dict[str, Any]:
        """Hand over the sums of the step's passes, and return what they say of the step."""
        sums, counts = self._hooks.activations.take()
        known: dict[str, Any] = {}
        if counts.n_microbatches:
            known["n_microbatches"] = counts.n_microbatches
            if self._pipeline is not None and self._wants_layers(self.clock.is_measured):
                self._pipeline.add_layers(self.clock.step, sums)
        if counts.batch_size and self._scalars.get("batch_size") is None:
            known["batch_size"] = counts.batch_size
        if counts.noise_parts:
            self._scalars.set_fact("noise_parts", counts.noise_parts)
        return known

    def _wants_layers(self, is_measured: bool) -> bool:
        is_capturing = cuda_graphs.is_capturing()
        return "activations" in self._stages.settings.groups and (is_measured or is_capturing)

    # -- forward and backward

    def on_forward(self) -> bool:
        """Begin a forward pass with gradients; return whether to measure it."""
        if self.clock.is_paused:
            return False
        self.open_row()
        return self.clock.is_measured or cuda_graphs.is_capturing()

    def on_backward(self) -> None:
        """Begin a backward call that reaches the parameters."""
        if self.clock.is_paused:
            return
        self.open_row()
        if self._hooks.activations.passes.n_discarded > MAX_WITHOUT_STEP:
            self._warn_without_step()

    def on_discard(self) -> None:
        """Forget what earlier backward calls added: their gradients were zeroed."""
        self._hooks.clip.forget()
        if self._pipeline is not None:
            self._pipeline.discard()

    def _warn_without_step(self) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        names = ", ".join(type(o).__name__ for o in self._optimizers.values())
        warn(
            f"gradscope sees backward passes but no step of the optimizer that it was given "
            f"({names}): nothing is recorded until its step() runs. Give Recorder the optimizer "
            "whose step() updates the parameters, such as the base optimizer of a wrapper",
        )

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
            began = time.perf_counter()
            self._measure_gradients(optimizer, None)
            self._scalars.set("is_skipped", True)
            self._end_step(optimizer, began)

    def before_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        """Measure gradients before a step; with a closure they do not exist yet."""
        if self.clock.is_paused or torch.compiler.is_compiling():
            return
        began = time.perf_counter()
        self._enter(optimizer)
        if not _has_closure(args, kwargs):
            self._measure_gradients(optimizer, getattr(optimizer, "grad_scale", None))
        elif self.clock.is_measured and self._pipeline is None:  # the closure runs the first pass
            self._early = early_copies(optimizer)
        elif self.clock.is_measured:
            self._prepare(optimizer).stepper.before_step(optimizer)
        self.seconds += time.perf_counter() - began

    def after_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        """Measure what a step did, and end it."""
        if self.clock.is_paused or self._attempt is None or torch.compiler.is_compiling():
            return
        began = time.perf_counter()
        if _has_closure(args, kwargs):
            self._measure_gradients(optimizer, None, is_after=True)
        found_inf = getattr(optimizer, "found_inf", None)
        self._scalars.set("is_skipped", 0.0 if found_inf is None else found_inf)
        assert self._pipeline is not None
        self._pipeline.after_step(optimizer)
        self._captured_optimizer = optimizer
        self._end_step(optimizer, began)

    def _enter(self, optimizer: Any) -> None:
        """Open a row for the step of an optimizer, or let it join the present one."""
        if self._attempt is not optimizer and self.clock.needs_row(self._index[id(optimizer)]):
            self.open_row()
        self._attempt = optimizer

    def _measure_gradients(
        self, optimizer: Any, grad_scale: Tensor | None, *, is_after: bool = False
    ) -> None:
        pipeline = self._prepare(optimizer)
        if self._early:
            pipeline.stepper.adopt(self._early)
            self._early = {}
        pipeline.gradients(optimizer, self.clock, is_after=is_after)
        pipeline.stepper.update_own(grad_scale, getattr(optimizer, "found_inf", None))
        if grad_scale is not None:
            self._scalars.set_fact("grad_scale", grad_scale)

    def _end_step(self, optimizer: Any, began: float) -> None:
        """Note what is known right after a step."""
        known = self._take_clipping(optimizer)
        activations = self._hooks.activations
        wants_layers = self._wants_layers(self.clock.is_measured)
        if wants_layers and activations.index and not activations.passes.n_calls:
            activations.taps.warn_once()
        is_capturing = cuda_graphs.is_capturing()
        if is_capturing:
            known |= self._take_passes()
            is_skipped = {} if self._hooks.scaler.scale is not None else {"is_skipped": 0.0}
            self._captured_row = known | is_skipped
        for name, value in known.items():
            self._scalars.set(name, value)
        self._close_step(optimizer, began)
        if not (is_capturing or is_in_backward()):  # else passes of this step are still going on
            self._finish_row()
        if is_capturing:  # nothing was done yet: the first replay is this step
            self._scalars.drop_last()
            self.clock.take_back()
        activations.taps.is_on = self._wants_layers(self.clock.next_is_measured())

    def _take_clipping(self, optimizer: Any) -> dict[str, Any]:
        """Return the factor of clipping; optimizers that share a row may have one each, or none."""
        params = [p for group in optimizer.param_groups for p in group["params"]]
        clipping, shared = self._hooks.clip.take(params), self._clipping
        self._clipping = clipping
        coefficient = clipping.coefficient
        if shared is not None and shared.calls != clipping.calls:
            coefficient = math.nan
        if isinstance(coefficient, float):
            self._scalars.set_fact("is_clip_unknown", 1.0)
        return {} if coefficient is None else {"clip_coefficient": coefficient}

    def _close_step(self, optimizer: Any, began: float) -> None:
        self.clock.end(self._index[id(optimizer)])
        self._attempt = None
        self._log_groups()
        now = time.perf_counter()
        self._scalars.set("wall_time", now - self._began)
        spent = now - began + self._hooks.activations.take_seconds()
        self.seconds += spent
        self._scalars.set("record_time", spent + (self._scalars.get("record_time") or 0.0))

    def _log_groups(self) -> None:
        """Note the hyper-parameters of every group as used, and which optimizers stepped."""
        stepped = self.clock.stepped
        if len(self._optimizers) > 1 and len(stepped) < len(self._optimizers):
            self._scalars.set("optimizer", sum(2**i for i in stepped if i < 53))
        elif len(self._optimizers) > 1:
            self._scalars.set("optimizer", -1)  # every bit set
        own_beta2 = OWN_BETA2 if self._stages.settings.keeps_own else None
        values, facts = read_groups(self._optimizers.values(), own_beta2)
        for name, column in values.items():
            self._scalars.set_groups(name, column)
        for name, column in facts.items():
            self._scalars.set_groups(name, column, is_fact=True)

    def advance(self) -> None:
        """Count one replay of a captured graph as a step, and take what it measured."""
        if self._pipeline is None or not self._pipeline.captured:
            raise UsageError(
                "advance() follows the replay of a CUDA graph that holds a whole step, captured "
                "while this recorder was attached; no such step was captured"
            )
        if self.clock.is_paused:
            return
        began = time.perf_counter()
        self.open_row()
        self._is_unfinished = False
        if self.clock.is_measured:
            self._pipeline.advance(self.clock)
        for name, value in self._captured_row.items():
            self._scalars.set(name, value)
        self._close_step(self._captured_optimizer, began)

    # -- the table

    def _prepare(self, optimizer: Any) -> Pipeline:
        """Fix the table at the first step; make it anew when unseen parameters turn up."""
        if self._pipeline is None:
            self._pipeline = self._make_pipeline()
            self._apply_resumed()
        elif self._pipeline.table.is_stale(optimizer):
            self._send_all()
            self._pipeline.close()
            self._pipeline = self._make_pipeline()
        return self._pipeline

    def _make_pipeline(self) -> Pipeline:
        activations = self._hooks.activations
        self._layers.arrange()
        before = self._pipeline
        pipeline = Pipeline(
            self._layers, self._optimizers, self._stages, activations.passes, before=before
        )
        if before is not None:
            step = self.clock.step
            self._ranks.begin_window(step, pipeline.window_capacity, self.clock.round)
        activations.reindex([layer.module for layer in pipeline.table.layers])
        return pipeline

    # -- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Step, recorded rounds and own second moments, to go on from after a restart."""
        if self._resumed:  # no step since `load_state_dict`
            return dict(self._resumed)
        own = self._pipeline.stepper.own_state() if self._pipeline else {}
        return {**self.clock.state(), "own": own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        step = int(state["step"])
        self.clock.resume(step, state["n_recorded"], int(state.get("round", step)))
        self._resumed = dict(state)
        if self._pipeline is not None:
            self._apply_resumed()

    def _apply_resumed(self) -> None:
        if self._resumed and self._pipeline is not None:
            self._pipeline.stepper.load_own_state(self._resumed["own"], self._stages.device)
            self._resumed = {}

    # -- out

    @property
    def first_nonfinite(self) -> tuple[int, str] | None:
        """Step and layer of the first non-finite gradient that has arrived."""
        return self._pipeline.delivery.first_nonfinite if self._pipeline else None

    @property
    def nbytes(self) -> int:
        """Memory that recording holds on the device."""
        return 0 if self._pipeline is None else self._pipeline.nbytes

    def flush(self) -> None:
        """Bring every finished row to the writer, waiting for the device.

        With several ranks: the rows that have been sent, since those of an unfinished window leave
        on all ranks at once or never.
        """
        if self._pipeline is None:
            return
        if self._ranks.is_alone:
            self._send_all()
        else:
            self._pipeline.stream.drain(wait=True)

    def _send_all(self, *, is_last: bool = False) -> None:
        """Send the rows of all steps that are over."""
        self._finish_row()
        self.clock.seal()
        if self._pipeline is not None:
            stream = self._pipeline.stream
            n = len(self._scalars) - self.clock.is_open
            stream.send(n, self.clock.n_finished, is_last=is_last)
            stream.drain(wait=True)

    def detach(self) -> None:
        """Remove every hook."""
        self._hooks.close()
        if self._pipeline is not None:
            self._pipeline.close()

    def close(self, *, has_failed: bool = False) -> None:
        """Remove every hook and hand over what is left."""
        has_waited = self.clock.is_open and self.clock.n_finished == 0 and not has_failed
        if has_waited and self._hooks.activations.passes.n_calls > 1:
            self._warn_without_step()
        self.detach()
        if self.clock.is_open:  # a step that never came to its end leaves no row
            self._scalars.drop_last()
            self.clock.take_back()
        self._send_all(is_last=not self._ranks.is_alone)
        self._ranks.close()


def _has_closure(args: tuple, kwargs: dict) -> bool:
    """Whether ``optimizer.step(closure)`` was called; ``args`` begin with the optimizer itself."""
    return (args[1] if len(args) > 1 else kwargs.get("closure")) is not None
