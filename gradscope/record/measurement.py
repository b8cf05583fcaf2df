"""All that depends on the table of parameters: what is measured of a step, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradscope import schema
from gradscope.record.distributed.ranks import Ranks
from gradscope.record.distributed.reduce import Pool
from gradscope.record.finalize.finalizer import Finisher
from gradscope.record.finalize.flight_recorder import FlightRecorder
from gradscope.record.hooks import cuda_graphs
from gradscope.record.hooks.microbatch_grads import MicroBatches
from gradscope.record.measure.reference.backend import Backend
from gradscope.record.measure.reference.sums import LAYER_SUMS, MOMENT_LOG2_COUNTS, PARAM_SUMS
from gradscope.record.measure.step import Stepper
from gradscope.record.model.layers import LayerTable
from gradscope.record.model.params import ParamTable
from gradscope.record.rows.scalars import TrainingRows
from gradscope.record.rows.stream import CAPACITY, RowStream, Shapes
from gradscope.record.settings import Settings
from gradscope.store.write.writer import RecordingWriter


class Measurement:
    """Measures steps for one table of parameters; a new one takes over when the model changes.

    Parameters
    ----------
    layers : LayerTable
        Already arranged.
    optimizers : mapping of str to Optimizer
    settings, writer, backend, training, flight, ranks
        Of the whole recording.
    before : Measurement, optional
        The one whose place this takes: own moments go on.
    """

    def __init__(
        self,
        layers: LayerTable,
        optimizers: Mapping[str, torch.optim.Optimizer],
        *,
        settings: Settings,
        writer: RecordingWriter,
        backend: Backend,
        training: TrainingRows,
        flight: FlightRecorder | None,
        device: torch.device,
        ranks: Ranks,
        before: Measurement | None,
    ) -> None:
        self._settings = settings
        self._device = device
        groups = settings.groups
        self.table = ParamTable(layers, optimizers, settings.is_selected)
        self._write_axes(writer)
        self.stepper = Stepper(
            self.table, backend, groups, keeps_own=settings.keeps_own, sketch_seed=ranks.rank
        )
        self.n_recorded: int = before.n_recorded if before else 0
        if before:
            self.stepper.own = before.stepper.own
        self._rows: dict[str, Tensor] = {}
        self.captured: dict[str, Tensor] = {}
        """Rows that a captured CUDA graph fills at each replay, by kind."""
        self._microbatches = (
            MicroBatches(self.table, backend.add_output, device) if "noise" in groups else None
        )
        shapes = self._shapes()
        self.stream: RowStream = RowStream(
            writer,
            Finisher(self.table, groups, grad_divisor=ranks.size),
            training,
            flight,
            shapes=shapes,
            cadence=settings.cadence,
            device=device,
            pool=Pool(ranks, self.table, shapes),
            first_nonfinite=before.stream.first_nonfinite if before else None,
        )

    def _shapes(self) -> Shapes:
        n, groups = len(self.table.params), self._settings.groups
        shapes = {
            "params": (CAPACITY, (n, len(PARAM_SUMS))),
            "layers": (CAPACITY, (len(self.table.layers), len(LAYER_SUMS))),
        }
        if "histograms" in groups:
            every = min(self._settings.histogram_every, CAPACITY)
            shapes["histograms"] = (-(-CAPACITY // every), (n, MOMENT_LOG2_COUNTS.stop))
        if "sketches" in groups:
            shapes["sketches"] = (CAPACITY, (n, schema.N_SKETCHES))
        if "noise" in groups:
            shapes["noise"] = (CAPACITY, (n, 2))
        return shapes

    def _write_axes(self, writer: RecordingWriter) -> None:
        groups = self._settings.groups
        writer.set_axis("param", self.table.param_axis())
        writer.set_axis("param_group", {"param_group": range(self.table.n_groups)})
        if "activations" in groups:
            writer.set_axis("layer", self.table.layer_axis())
        if "histograms" in groups:
            for name, (first, last) in (
                ("grad_bin", schema.GRAD_BIN_RANGE),
                ("moment_bin", schema.MOMENT_BIN_RANGE),
            ):
                writer.set_axis(name, {name: range(first, last + 1)})
        if "sketches" in groups:
            writer.set_axis("sketch", {"sketch": range(schema.N_SKETCHES)})

    def gradients(
        self, optimizer: Any, step: int, *, is_measured: bool, is_after: bool = False
    ) -> None:
        """Measure the gradients of a step, if it is one that is measured or captured."""
        if cuda_graphs.is_capturing():
            self._rows = self.captured = self._fixed_rows()
        else:
            self._rows = self._open_rows(step) if is_measured else {}
        added = self._microbatches.take() if self._microbatches else None
        if added is not None and "noise" in self._rows:
            self._rows["noise"][:, 0] = added
        self.stepper.gradients(optimizer, self._rows, is_after=is_after)

    def _fixed_rows(self) -> dict[str, Tensor]:
        shapes = {kind: shape for kind, (_, shape) in self._shapes().items() if kind != "layers"}
        return {
            kind: torch.full(shape, torch.nan, dtype=torch.float64, device=self._device)
            for kind, shape in shapes.items()
        }

    def _open_rows(self, step: int) -> dict[str, Tensor]:
        kinds = self._kinds_of(step) - {"layers"}
        return {kind: self.stream.open_row(kind, step) for kind in kinds}

    def _kinds_of(self, step: int) -> set[str]:
        """Kinds of rows that a measured step has; counts the recorded ones."""
        is_recorded = self._settings.cadence(step)
        has_histogram = is_recorded and self.n_recorded % self._settings.histogram_every == 0
        self.n_recorded += is_recorded
        return set(self._shapes()) - (set() if has_histogram else {"histograms"})

    def advance(self, step: int) -> None:
        """Give a step the rows that the replay of a captured graph has filled."""
        for kind in self._kinds_of(step) & set(self.captured):
            self.stream.open_row(kind, step).copy_(self.captured[kind])

    def after_step(self, optimizer: Any) -> None:
        """Measure what the step did."""
        self.stepper.after_step(optimizer, self._rows)
        self._rows = {}

    def add_activations(self, step: int, sums: Tensor) -> None:
        """Add the sums of a step's outputs and output gradients (layer, len(LAYER_SUMS))."""
        if cuda_graphs.is_capturing():
            self.captured["layers"] = sums
            return
        self.stream.open_row("layers", step).copy_(sums)

    def state_dict(self) -> dict[str, Any]:
        """Recorded rows and own second moments with their steps, copied."""
        own = {name: (v.clone(), step.clone()) for name, (v, step) in self.stepper.own.items()}
        return {"n_recorded": self.n_recorded, "own": own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.n_recorded = state["n_recorded"]
        self.stepper.own = {
            name: (v.to(self._device, copy=True), step.to(self._device, copy=True))
            for name, (v, step) in state["own"].items()
        }

    def close(self) -> None:
        """Remove the hooks on the parameters."""
        if self._microbatches:
            self._microbatches.close()
