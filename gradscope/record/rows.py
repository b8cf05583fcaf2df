"""All rows of a recording on their way: from the device buffers to the writer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradscope import schema
from gradscope.record import finish
from gradscope.record.buffer import Pending, RowBuffer
from gradscope.record.measures import GRADIENT_SUMS, LAYER_SUMS, PARAM_SUMS
from gradscope.record.params import ParamTable
from gradscope.record.training import PendingTraining, TrainingRows
from gradscope.store.writer import RecordingWriter

CAPACITY = 64
"""Steps that are kept on the device before they are brought over."""

_GRAD_SCALE_POWER = {
    "grad_sum": 1, "grad_abs_sum": 1, "grad_square_sum": 2, "grad_fourth_sum": 4,
    "grad_abs_max": 1, "grad_param_dot": 1,
}  # fmt: skip
_AFTER_STEP = slice(len(GRADIENT_SUMS), len(PARAM_SUMS))


@dataclass
class _Batch:
    training: PendingTraining
    params: Pending
    layers: Pending

    @property
    def is_ready(self) -> bool:
        return self.training.is_ready and self.params.is_ready and self.layers.is_ready


class RowStream:
    """Buffers rows for one table of parameters, and sends finished variables to the writer."""

    def __init__(
        self, writer: RecordingWriter, table: ParamTable, groups: Collection[str], *,
        device: torch.device, training: TrainingRows, grad_divisor: float = 1.0,
        first_nonfinite: tuple[int, str] | None = None,
    ) -> None:  # fmt: skip
        self._writer = writer
        self._table = table
        self._groups = groups
        self._training = training
        self._params = RowBuffer(CAPACITY, (len(table.params), len(PARAM_SUMS)), device)
        self._layers = RowBuffer(CAPACITY, (len(table.layers), len(LAYER_SUMS)), device)
        self._batches: list[_Batch] = []
        self._divisor = grad_divisor
        self.first_nonfinite = first_nonfinite

    @property
    def nbytes(self) -> int:
        """Memory held on the device."""
        return self._params.nbytes + self._layers.nbytes

    @property
    def is_full(self) -> bool:
        """Whether the next row needs a `send` first."""
        return self._params.is_full or self._layers.is_full

    def open_param_row(self, step: int) -> Tensor:
        """Begin a row of `measures.PARAM_SUMS` (param, …)."""
        return self._params.open_row(step)

    def add_layer_row(self, step: int, sums: Tensor) -> None:
        """Add a row of `measures.LAYER_SUMS` (layer, …)."""
        self._layers.open_row(step).copy_(sums)

    def send(self, n_training: int, last_step: int) -> None:
        """Begin to bring over the first rows of training and all others up to ``last_step``."""
        if n_training == 0:
            return
        counts = [sum(s <= last_step for s in b.steps) for b in (self._params, self._layers)]
        self._batches.append(
            _Batch(self._training.take(n_training), self._params.take(counts[0]),
                   self._layers.take(counts[1]))
        )  # fmt: skip

    def drain(self, *, wait: bool = False) -> None:
        """Finish what has arrived and hand it to the writer; everything with ``wait``."""
        while self._batches and (wait or self._batches[0].is_ready):
            self._write(self._batches.pop(0))

    def _write(self, batch: _Batch) -> None:
        training = batch.training.arrays()
        steps = training["step"].astype(np.int64)
        params = batch.params.rows().copy() if len(batch.params.steps) else None
        clip = training.get("clip_coefficient", np.full(len(steps), np.nan))
        total = np.full(len(steps), np.nan)
        if params is not None:
            at = np.searchsorted(steps, batch.params.steps)
            _unscale(params, _pick(training, "_grad_scale", at, default=1.0))
            skipped = _pick(training, "is_skipped", at, default=0.0) > 0
            params[skipped, :, _AFTER_STEP] = np.nan
            total[at] = finish.total_grad_norm(params, clip[at])
            self._note_nonfinite(batch.params.steps[~skipped], params[~skipped])
        training["total_grad_norm"] = total
        self._write_training(steps, training)
        if params is not None:
            self._write_params(batch.params.steps, params, training, at)
        if len(batch.layers.steps) and "signals" in self._groups:
            at = np.searchsorted(steps, batch.layers.steps)
            scale = _pick(training, "loss_scale", at, default=1.0) * self._divisor
            rows = finish.finish_signals(batch.layers.rows(), scale)
            self._writer.append("signals", {"step": batch.layers.steps, **rows})

    def _write_training(self, steps: np.ndarray, training: dict[str, np.ndarray]) -> None:
        declared = schema.TRAINING.variables
        rows: dict[str, np.ndarray] = {"step": steps}
        for name, values in training.items():
            if name == "step" or name.startswith("_"):
                continue
            kind = declared[name].dtype if name in declared else "float64"
            is_whole = not kind.startswith("float")
            rows[name] = (
                np.where(np.isnan(values), -1, values).astype(np.int64) if is_whole else values
            )
        self._writer.append("training", rows)

    def _write_params(
        self, steps: np.ndarray, raw: np.ndarray, training: dict[str, np.ndarray], at: np.ndarray
    ) -> None:
        numel = self._table.numel
        made: dict[str, finish.Rows] = {}
        if "gradients" in self._groups:
            made["gradients"] = finish.finish_gradients(raw, numel)
        if "updates" in self._groups:
            made["updates"] = finish.finish_updates(raw)
        if "second_moments" in self._groups:
            betas = (self._beta(training, name, at) for name in ("_beta1", "_beta2"))
            made["second_moments"] = finish.finish_second_moments(raw, numel, *betas)
        for group, rows in made.items():
            self._writer.append(group, {"step": steps, **rows})

    def _beta(self, training: dict[str, np.ndarray], name: str, at: np.ndarray) -> np.ndarray:
        """Spread what each parameter group has over its parameters (row, param)."""
        by_group = training[name][at]
        padded = np.concatenate([by_group, np.full((len(at), 1), np.nan)], axis=1)
        return padded[:, self._table.group]

    def _note_nonfinite(self, steps: np.ndarray, params: np.ndarray) -> None:
        """Keep the first step with a non-finite gradient, and the layer nearest to the loss."""
        if self.first_nonfinite is not None or not len(steps):
            return
        bad = params[:, :, GRADIENT_SUMS.index("grad_n_nonfinite")] > 0
        if bad.any():
            row = int(bad.any(axis=1).argmax())
            param = self._table.params[int(np.flatnonzero(bad[row])[-1])]
            layer = param.layer.name if param.layer else param.name
            self.first_nonfinite = int(steps[row]), layer


def _pick(
    training: dict[str, np.ndarray], name: str, at: np.ndarray, *, default: float
) -> np.ndarray:
    values = training[name][at] if name in training else np.full(len(at), default)
    return np.where(np.isnan(values), default, values)


def _unscale(params: np.ndarray, scale: np.ndarray) -> None:
    """Divide by the loss scale what a fused optimizer had still to unscale itself."""
    if (scale == 1).all():
        return
    for name, power in _GRAD_SCALE_POWER.items():
        params[:, :, PARAM_SUMS.index(name)] /= scale[:, None] ** power
