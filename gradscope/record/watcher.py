"""The flow of one recording: which hook fires when, and what is done then.

One attempted step is: forward passes (activations), a pre-step hook (gradients, copy of the
parameters), the optimizer, a post-step hook (updates, moments). A step that a scaler skips ends
without the hooks. The row of ``/training`` stays open until the next forward pass or step, for late
``log``s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradscope.errors import UsageError
from gradscope.record.distributed.ranks import Ranks
from gradscope.record.finalize.flight_recorder import FlightRecorder
from gradscope.record.hooks import cuda_graphs
from gradscope.record.hooks.activations import Activations
from gradscope.record.hooks.grad_scaler import ClipWatch, ScalerWatch
from gradscope.record.measure.choose import choose_backend
from gradscope.record.measure.step import OWN_BETA2, early_copies
from gradscope.record.measurement import Measurement
from gradscope.record.model.layers import LayerTable, device_of
from gradscope.record.model.optimizer_state import read_groups
from gradscope.record.rows.departures import Departures
from gradscope.record.rows.scalars import TrainingRows
from gradscope.record.rows.stream import CAPACITY
from gradscope.record.settings import Settings
from gradscope.store.write.writer import RecordingWriter


class Watcher:
    """Hooks a model and its optimizers, and measures each attempted step.

    Parameters
    ----------
    models, optimizers : mappings of names
    writer : RecordingWriter
    settings : Settings
    grad_scaler : torch.amp.GradScaler or None
    ranks : Ranks
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        writer: RecordingWriter,
        settings: Settings,
        *,
        grad_scaler: Any,
        ranks: Ranks,
    ) -> None:
        self.step = 0
        self.seconds = 0.0
        self.is_paused = False
        self.last_loss: Any = 0.0
        self._models, self._optimizers, self._writer = dict(models), dict(optimizers), writer
        self._settings, self._ranks = settings, ranks
        self._device = device_of(models)
        self._backend = choose_backend(self._device)
        self._layers = LayerTable(models)
        self._training = TrainingRows(CAPACITY, self._device)
        n = settings.flight_recorder
        self._flight = FlightRecorder(n, writer) if n else None
        self._measurement: Measurement | None = None
        self._resumed: dict[str, Any] = {}
        self._early: dict[int, Tensor] = {}
        self._row_is_done = True
        self._attempt: Any = None
        self._captured_optimizer: Any = None
        self._captured_row: dict[str, Any] = {}  # its tensors are filled anew by each replay
        self._departures = Departures(ranks)
        self._began = time.perf_counter()
        self._attach(grad_scaler)

    def _attach(self, grad_scaler: Any) -> None:
        self._activations = Activations(
            self._layers,
            self._backend.add_output,
            self._on_forward,
            device=self._device,
            is_measuring="activations" in self._settings.groups,
        )
        self._clip = ClipWatch(self._is_ours)
        self._scaler = ScalerWatch(grad_scaler, self._before_scaler, self._after_scaler)
        before = torch.compiler.disable(self._before_step)  # inside a compiled step: run as is
        after = torch.compiler.disable(self._after_step)
        self._handles = []
        for optimizer in self._optimizers.values():
            self._handles.append(optimizer.register_step_pre_hook(before))
            self._handles.append(optimizer.register_step_post_hook(after))

    def _is_ours(self, parameter: Tensor) -> bool:
        return any(
            parameter is p
            for o in self._optimizers.values()
            for g in o.param_groups
            for p in g["params"]
        )

    # -- the open row -------------------------------------------------------------------------

    def open_row(self) -> None:
        """Begin the row of the next step, unless one is open already."""
        if not self._row_is_done:
            return
        self._departures.check(self._measurement, self._training, self.step)
        self.step += 1
        self._training.open_row(self.step)
        self._row_is_done = False

    def log(self, name: str, value: Any) -> None:
        """Put one number into the row of the step in progress, or of the last finished one."""
        if not len(self._training):
            self.open_row()
        self._training.set(name, value)
        if name == "loss":
            self._training.set("_has_loss", 1.0)
            self.last_loss = value.detach() if isinstance(value, Tensor) else value

    @property
    def n_finished(self) -> int:
        """Steps that were attempted and are over."""
        return self.step if self._row_is_done else self.step - 1

    @property
    def is_measured(self) -> bool:
        """Whether statistics of the present step are taken."""
        return self._measures(self.step)

    def _measures(self, step: int) -> bool:
        always = self._flight is not None or cuda_graphs.is_capturing()
        return always or self._settings.cadence(step)

    def _wants_activations(self, step: int) -> bool:
        return "activations" in self._settings.groups and self._measures(step)

    def _on_forward(self) -> bool:
        if self.is_paused:
            return False
        self.open_row()
        return self.is_measured

    # -- the step -----------------------------------------------------------------------------

    def _before_scaler(self, optimizer: Any) -> None:
        if self.is_paused or optimizer not in self._optimizers.values():
            return
        self.open_row()
        scale = self._scaler.scale
        if scale is not None:
            self._training.set("loss_scale", scale)
        self._attempt = optimizer

    def _after_scaler(self, optimizer: Any) -> None:
        if self._attempt is optimizer:  # no hook came: the scaler skipped the step
            began = time.perf_counter()
            self._measure_gradients(optimizer, None)
            self._training.set("is_skipped", True)
            self._end_step(began)

    def _before_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if self.is_paused or torch.compiler.is_compiling():
            return
        began = time.perf_counter()
        self.open_row()
        self._attempt = optimizer
        if not _has_closure(args, kwargs):
            self._measure_gradients(optimizer, getattr(optimizer, "grad_scale", None))
        elif self.is_measured and self._measurement is None:  # the closure runs the first pass
            self._early = early_copies(optimizer)
        elif self.is_measured:
            self._prepare(optimizer).stepper.before_step(optimizer)
        self.seconds += time.perf_counter() - began

    def _after_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if self.is_paused or self._attempt is None or torch.compiler.is_compiling():
            return
        began = time.perf_counter()
        if _has_closure(args, kwargs):
            self._measure_gradients(optimizer, None, is_after=True)
        found_inf = getattr(optimizer, "found_inf", None)
        self._training.set("is_skipped", 0.0 if found_inf is None else found_inf)
        assert self._measurement is not None
        self._measurement.after_step(optimizer)
        self._captured_optimizer = optimizer
        self._end_step(began)

    def _measure_gradients(
        self, optimizer: Any, grad_scale: Tensor | None, *, is_after: bool = False
    ) -> None:
        measurement = self._prepare(optimizer)
        if self._early:
            measurement.stepper.adopt(self._early)
            self._early = {}
        measurement.gradients(optimizer, self.step, is_measured=self.is_measured, is_after=is_after)
        measurement.stepper.update_own(grad_scale, getattr(optimizer, "found_inf", None))
        if grad_scale is not None:
            self._training.set("_grad_scale", grad_scale)

    def _end_step(self, began: float) -> None:
        """Complete the row of the step with what is known only now."""
        assert self._measurement is not None
        sums, n_microbatches, batch_size = self._activations.take()
        known: dict[str, Any] = {}
        if n_microbatches:
            known["n_microbatches"] = n_microbatches
            if self._wants_activations(self.step):
                self._measurement.add_activations(self.step, sums)
        elif self._wants_activations(self.step) and self._activations.index:
            self._activations.taps.warn_once()
        self._activations.taps.is_on = self._wants_activations(self.step + 1)
        if batch_size:
            known["batch_size"] = batch_size
        coefficient = self._clip.take()
        if coefficient is not None:
            known["clip_coefficient"] = coefficient
        if cuda_graphs.is_capturing():
            is_skipped = {} if self._scaler.scale is not None else {"is_skipped": 0.0}
            self._captured_row = known | is_skipped
        self._set_all(known)
        self._close_row(began)

    def _set_all(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._training.set(name, value)

    def _close_row(self, began: float) -> None:
        self._log_groups()
        now = time.perf_counter()
        self._training.set("wall_time", now - self._began)
        spent = now - began + self._activations.take_seconds()
        self.seconds += spent
        self._training.set("record_time", spent)
        self._attempt = None
        self._row_is_done = True
        if cuda_graphs.is_capturing():  # nothing was done yet: the first replay is this step
            self._training.drop_last()
            self.step -= 1

    def advance(self) -> None:
        """Count one replay of a captured graph as a step, and take what it measured."""
        if self._measurement is None or not self._measurement.captured:
            raise UsageError(
                "advance() follows the replay of a CUDA graph that holds a whole step, captured "
                "while this recorder was attached; no such step was captured"
            )
        if self.is_paused:
            return
        began = time.perf_counter()
        self.open_row()
        if self.is_measured:
            self._measurement.advance(self.step)
        self._set_all(self._captured_row)
        self._attempt = self._captured_optimizer
        self._close_row(began)

    def _log_groups(self) -> None:
        """Note the hyper-parameters of every group as used, and which optimizer stepped."""
        if len(self._optimizers) > 1:
            names = list(self._optimizers)
            stepped = next(i for i, n in enumerate(names) if self._optimizers[n] is self._attempt)
            self._training.set("optimizer", stepped)
        own_beta2 = OWN_BETA2 if self._settings.keeps_own else None
        self._set_all(read_groups(self._optimizers.values(), own_beta2))

    # -- the table ----------------------------------------------------------------------------

    def _prepare(self, optimizer: Any) -> Measurement:
        """Fix the table at the first step; make it anew when unseen parameters turn up."""
        if self._measurement is None:
            self._activations.stop_learning()
            self._measurement = self._make_measurement()
            self._apply_resumed()
        elif self._measurement.table.has_news(optimizer):
            self._send_all(is_open=True)
            self._layers.extend()
            self._measurement.close()
            self._measurement = self._make_measurement()
        return self._measurement

    def _make_measurement(self) -> Measurement:
        sums, *counts = self._activations.take()
        rows = dict(self._activations.index)
        self._layers.arrange()
        measurement = Measurement(
            self._layers,
            self._optimizers,
            settings=self._settings,
            writer=self._writer,
            backend=self._backend,
            training=self._training,
            flight=self._flight,
            device=self._device,
            ranks=self._ranks,
            before=self._measurement,
        )
        if self._measurement is not None:
            self._ranks.begin_window(self.step, measurement.stream.pool.capacity)
        self._activations.reindex([layer.module for layer in measurement.table.layers])
        self._activations.put_back(rows, sums, *counts)
        return measurement

    # -- checkpoints --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Step, recorded rows and own second moments, to go on from after a restart."""
        if self._resumed:  # no step since `load_state_dict`
            return dict(self._resumed)
        kept = self._measurement.state_dict() if self._measurement else {"n_recorded": 0, "own": {}}
        return {"step": self.n_finished, **kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.step = int(state["step"])
        self._resumed = dict(state)
        if self._measurement is not None:
            self._apply_resumed()

    def _apply_resumed(self) -> None:
        if self._resumed and self._measurement is not None:
            self._measurement.load_state_dict(self._resumed)
            self._resumed = {}

    # -- out ----------------------------------------------------------------------------------

    @property
    def first_nonfinite(self) -> tuple[int, str] | None:
        """Step and layer of the first non-finite gradient that has arrived."""
        return self._measurement.stream.first_nonfinite if self._measurement else None

    @property
    def nbytes(self) -> int:
        """Memory that recording holds on the device."""
        if self._measurement is None:
            return 0
        return self._measurement.stepper.nbytes + self._measurement.stream.nbytes

    def flush(self) -> None:
        """Bring every finished row to the writer, waiting for the device.

        With several ranks: the rows that have been sent, since those of an unfinished window leave
        on all ranks at once or never.
        """
        if self._measurement is None:
            return
        if self._ranks.is_alone:
            self._send_all(is_open=not self._row_is_done)
        else:
            self._measurement.stream.drain(wait=True)

    def _send_all(self, *, is_open: bool, is_last: bool = False) -> None:
        if self._measurement is not None:
            stream = self._measurement.stream
            n = len(self._training) - is_open
            stream.send(n, self.step - is_open, is_last=is_last)
            stream.drain(wait=True)

    def close(self) -> None:
        """Remove every hook and hand over what is left."""
        self._activations.close()
        self._clip.close()
        self._scaler.close()
        for handle in self._handles:
            handle.remove()
        if not self._row_is_done:  # a step that never came to its end leaves no row
            self._training.drop_last()
            self.step -= 1
            self._row_is_done = True
        self._send_all(is_open=False, is_last=not self._ranks.is_alone)
        self._ranks.close()
        if self._measurement is not None:
            self._measurement.close()


def _has_closure(args: tuple, kwargs: dict) -> bool:
    """Whether ``optimizer.step(closure)`` was called; ``args`` begin with the optimizer itself."""
    return (args[1] if len(args) > 1 else kwargs.get("closure")) is not None
