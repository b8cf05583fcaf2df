"""The flow of one recording: which hook fires when, and what is done then.

One attempted step is: forward passes (signals), a pre-step hook (gradients, copy of the
parameters), the optimizer, a post-step hook (updates, moments). A step that a scaler skips ends
without the hooks. The row of ``/training`` stays open until the next forward pass or step, for late
``log``s.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradscope.record.backends import choose_backend
from gradscope.record.cadence import Cadence
from gradscope.record.layers import LayerTable, device_of
from gradscope.record.optimizers import HYPERPARAMETERS, has_bias_correction, hyperparameters
from gradscope.record.params import ParamTable
from gradscope.record.rows import CAPACITY, RowStream
from gradscope.record.signals import Signals
from gradscope.record.stepper import OWN_BETA2, Stepper
from gradscope.record.training import TrainingRows
from gradscope.record.watch import ClipWatch, ScalerWatch
from gradscope.store.writer import RecordingWriter

SEND_SECONDS = 2.0
"""Rows leave the buffers at least this often."""


class Watcher:
    """Hooks a model and its optimizers, and measures each attempted step.

    The parameters are those of `gradscope.record.recorder.Recorder`, already checked.
    """

    def __init__(
        self, models: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer],
        writer: RecordingWriter, *, cadence: Cadence, groups: Collection[str],
        is_selected: Callable[[str], bool], grad_scaler: Any, keeps_own: bool, first_step: int = 0,
    ) -> None:  # fmt: skip
        self.step = first_step
        self.seconds = 0.0
        self.is_paused = False
        self.last_loss: Any = 0.0
        self._models, self._optimizers, self._writer = dict(models), dict(optimizers), writer
        self._cadence, self._groups, self._is_selected = cadence, frozenset(groups), is_selected
        self._keeps_own = keeps_own
        self._device = device_of(models)
        self._backend = choose_backend(self._device)
        self._layers = LayerTable(models)
        self._training = TrainingRows(CAPACITY, self._device)
        self._stream: RowStream | None = None
        self._stepper: Stepper | None = None
        self._own: dict[str, tuple[Tensor, Tensor]] = {}
        self._row_is_done = True
        self._attempt: Any = None
        self._began = self._sent = time.perf_counter()
        self._attach(grad_scaler)

    def _attach(self, grad_scaler: Any) -> None:
        self._signals = Signals(
            self._layers, self._backend.add_output, self._on_forward,
            device=self._device, is_measuring="signals" in self._groups,
        )  # fmt: skip
        self._clip = ClipWatch(self._is_ours)
        self._scaler = ScalerWatch(grad_scaler, self._before_scaler, self._after_scaler)
        self._handles = []
        for optimizer in self._optimizers.values():
            self._handles.append(optimizer.register_step_pre_hook(self._before_step))
            self._handles.append(optimizer.register_step_post_hook(self._after_step))

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
        self._send_if_due()
        self.step += 1
        self._training.open_row(self.step)
        self._row_is_done = False

    def log(self, name: str, value: Any) -> None:
        """Put one number into the row of the step in progress, or of the last finished one."""
        if not len(self._training):
            self.open_row()
        self._training.set(name, value)
        if name == "loss":
            self.last_loss = value.detach() if isinstance(value, Tensor) else value

    @property
    def n_finished(self) -> int:
        """Steps that were attempted and are over."""
        return self.step if self._row_is_done else self.step - 1

    @property
    def is_recording(self) -> bool:
        """Whether statistics of the present step are taken."""
        return not self.is_paused and self._cadence(self.step)

    def _on_forward(self) -> bool:
        if self.is_paused:
            return False
        self.open_row()
        return self.is_recording

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
            self._measure_before(optimizer, None)
            self._training.set("is_skipped", True)
            self._end_step(began)

    def _before_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if self.is_paused or torch.compiler.is_compiling():
            return
        began = time.perf_counter()
        self.open_row()
        self._attempt = optimizer
        if _has_closure(args, kwargs):
            self._prepare(optimizer)
            assert self._stepper is not None
            if self.is_recording:
                self._stepper.before_step(optimizer)
        else:
            self._measure_before(optimizer, getattr(optimizer, "grad_scale", None))
        self.seconds += time.perf_counter() - began

    def _after_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if self.is_paused or self._attempt is None or torch.compiler.is_compiling():
            return
        began = time.perf_counter()
        if _has_closure(args, kwargs):
            self._measure_before(optimizer, None, is_after=True)
        found_inf = getattr(optimizer, "found_inf", None)
        self._training.set("is_skipped", 0.0 if found_inf is None else found_inf)
        assert self._stepper is not None
        if self._row is not None:
            self._stepper.after_step(optimizer, self._row)
        self._end_step(began)

    def _measure_before(
        self, optimizer: Any, grad_scale: Tensor | None, *, is_after: bool = False
    ) -> None:
        self._prepare(optimizer)
        assert self._stepper is not None and self._stream is not None
        self._row = self._stream.open_param_row(self.step) if self.is_recording else None
        self._stepper.gradients(optimizer, self._row, is_after=is_after)
        self._stepper.update_own(grad_scale, getattr(optimizer, "found_inf", None))
        if grad_scale is not None:
            self._training.set("_grad_scale", grad_scale)

    def _end_step(self, began: float) -> None:
        """Complete the row of the step with what is known only now."""
        assert self._stream is not None
        sums, n_microbatches, batch_size = self._signals.take()
        if self.is_recording and "signals" in self._groups and n_microbatches:
            self._stream.add_layer_row(self.step, sums)
        if n_microbatches:
            self._training.set("n_microbatches", n_microbatches)
        if batch_size:
            self._training.set("batch_size", batch_size)
        coefficient = self._clip.take()
        if coefficient is not None:
            self._training.set("clip_coefficient", coefficient)
        self._log_groups()
        now = time.perf_counter()
        self._training.set("wall_time", now - self._began)
        spent = now - began + self._signals.take_seconds()
        self.seconds += spent
        self._training.set("record_time", spent)
        self._attempt = None
        self._row = None
        self._row_is_done = True

    def _log_groups(self) -> None:
        """Note the hyper-parameters of every group as used, and which optimizer stepped."""
        columns: dict[str, list[Any]] = {
            name: [] for name in (*HYPERPARAMETERS, "_beta1", "_beta2")
        }
        for index, optimizer in enumerate(self._optimizers.values()):
            if optimizer is self._attempt and len(self._optimizers) > 1:
                self._training.set("optimizer", index)
            for group in optimizer.param_groups:
                values = hyperparameters(optimizer, group)
                corrected = has_bias_correction(optimizer, group)
                if self._keeps_own and math.isnan(values["beta2"]):
                    values["beta2"], corrected = OWN_BETA2, True
                for name in HYPERPARAMETERS:
                    columns[name].append(values[name])
                columns["_beta1"].append(_correction(values["beta1"], corrected, "betas" in group))
                columns["_beta2"].append(values["beta2"] if corrected else 0.0)
        for name, items in columns.items():
            self._training.set(name, items)

    # -- the table ----------------------------------------------------------------------------

    def _prepare(self, optimizer: Any) -> None:
        """Fix the table at the first step; make it anew when unseen parameters turn up."""
        if self._stepper is None:
            self._signals.stop_learning()
            self._make_table()
        elif self._stepper.table.has_news(optimizer):
            self.flush(keep_open=True)
            self._layers.extend()
            self._make_table()

    def _make_table(self) -> None:
        sums, *counts = self._signals.take()
        old = dict(self._signals.index)
        self._layers.arrange()
        table = ParamTable(self._layers, self._optimizers, self._is_selected)
        self._writer.set_axis("param", table.param_axis())
        if "signals" in self._groups:
            self._writer.set_axis("layer", table.layer_axis())
        self._writer.set_axis("param_group", {"param_group": list(range(table.n_groups))})
        self._signals.reindex([x.module for x in table.layers])
        self._signals.put_back(old, sums, *counts)
        if self._stepper is not None:
            self._own = self._stepper.own
        self._stepper = Stepper(table, self._backend, self._groups, keeps_own=self._keeps_own)
        self._stepper.own = self._own
        self._stream = RowStream(
            self._writer, table, self._groups, device=self._device, training=self._training,
            first_nonfinite=self._stream.first_nonfinite if self._stream else None,
        )  # fmt: skip

    # -- out ----------------------------------------------------------------------------------

    @property
    def first_nonfinite(self) -> tuple[int, str] | None:
        """Step and layer of the first non-finite gradient that has arrived."""
        return self._stream.first_nonfinite if self._stream else None

    def _send_if_due(self) -> None:
        now = time.perf_counter()
        if self._stream is None:
            return
        if self._training.is_full or self._stream.is_full or now - self._sent > SEND_SECONDS:
            self._stream.send(len(self._training), self.step)
            self._sent = now
        self._stream.drain()

    def flush(self, *, keep_open: bool = False) -> None:
        """Bring every finished row to the writer, waiting for the device."""
        if self._stream is None:
            return
        is_open = not self._row_is_done or keep_open
        n = len(self._training) - is_open
        self._stream.send(n, self.step - is_open)
        self._stream.drain(wait=True)

    def close(self) -> None:
        """Remove every hook and hand over what is left."""
        self._signals.close()
        self._clip.close()
        self._scaler.close()
        for handle in self._handles:
            handle.remove()
        if not self._row_is_done:  # a step that never came to its end leaves no row
            self._training.drop_last()
            self.step -= 1
            self._row_is_done = True
        self.flush()


def _has_closure(args: tuple, kwargs: dict) -> bool:
    """Whether ``optimizer.step(closure)`` was called; ``args`` begin with the optimizer itself."""
    return (args[1] if len(args) > 1 else kwargs.get("closure")) is not None


def _correction(beta1: Any, is_corrected: bool, is_average: bool) -> Any:
    """Decay to correct the first moment with: 0 for an uncorrected average, NaN for a plain sum."""
    if not is_average:
        return math.nan
    return beta1 if is_corrected else 0.0
