"""The stages of recording, wired for one table of parameters.

hooks -> measure (raw sums) -> rows (device buffers) -> distributed (all ranks) -> finalize
(variables) -> store. When the model changes, a new pipeline takes over.

While a step is captured into a CUDA graph its statistics go to rows of their own, which the graph's
kernels overwrite at each replay; `Recorder.advance` then copies them, on the device, to the rows of
the next step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradscope.errors import warn
from gradscope.native import cuda_graphs
from gradscope.record.clock import StepClock
from gradscope.record.distributed.ranks import Ranks
from gradscope.record.distributed.reduce import Reducer
from gradscope.record.finalize.delivery import Delivery
from gradscope.record.finalize.finalizer import Finalizer
from gradscope.record.finalize.flight_recorder import FlightRecorder
from gradscope.record.finalize.kinds import row_kinds
from gradscope.record.guard import Guard
from gradscope.record.hooks.microbatch_grads import MicroBatches
from gradscope.record.hooks.passes import Passes
from gradscope.record.measure.custom import CustomMeasures
from gradscope.record.measure.reference.backend import Backend
from gradscope.record.measure.reference.quantities import functions_of
from gradscope.record.measure.step import Stepper
from gradscope.record.model.layers import LayerTable
from gradscope.record.model.params import ParamTable
from gradscope.record.rows.scalars import ScalarRows
from gradscope.record.rows.stream import RowStream, capacity_of
from gradscope.record.settings import Settings
from gradscope.store.write.writer import RecordingWriter


@dataclass(frozen=True)
class Stages:
    """What a recording has one of, whatever table of parameters is in use."""

    settings: Settings
    backend: Backend
    scalars: ScalarRows
    ranks: Ranks
    device: torch.device
    guard: Guard
    writer: RecordingWriter | None = None
    flight: FlightRecorder | None = None


class Pipeline:
    """Measures steps and sends their rows, for one table of parameters.

    Parameters
    ----------
    layers : LayerTable
        Already arranged.
    optimizers : mapping of str to Optimizer
    stages : Stages
    passes : Passes
        Says which backward calls count.
    before : Pipeline, optional
        The one whose place this takes: own moments go on.
    """

    def __init__(
        self,
        layers: LayerTable,
        optimizers: Mapping[str, torch.optim.Optimizer],
        stages: Stages,
        passes: Passes,
        *,
        before: Pipeline | None,
    ) -> None:
        settings, ranks, writer = stages.settings, stages.ranks, stages.writer
        assert writer is not None
        groups = settings.groups
        self._device = stages.device
        self.table = ParamTable(layers, optimizers, settings.is_selected)
        functions = functions_of(groups, settings.custom)
        kinds = row_kinds(
            self.table,
            groups,
            n_ranks=ranks.size,
            histogram_every=settings.histogram_every,
            functions=functions,
        )
        self._kinds = {kind.name: kind for kind in kinds}
        for kind in kinds:
            for name, columns in kind.axes.items():
                writer.set_axis(name, columns)
        self.stepper = Stepper(
            self.table,
            stages.backend,
            groups,
            custom=CustomMeasures(functions) if functions else None,
            keeps_own=settings.keeps_own,
            sketch_seed=ranks.rank,
        )
        if before is not None:
            self.stepper.take_over(before.stepper)
        self._microbatches = None
        if "noise" in groups:
            self._microbatches = MicroBatches(
                self.table, stages.backend.add_output, passes, self._device, stages.guard
            )
        reducer = Reducer(ranks, self.table, kinds, {k.name: capacity_of(k) for k in kinds})
        self.window_capacity = reducer.capacity
        finalizer = Finalizer(self.table, kinds, groups)
        earlier = before.delivery if before else None
        self.delivery: Delivery = Delivery(writer, finalizer, stages.flight, earlier)
        self.stream = RowStream(
            kinds,
            stages.scalars,
            exchange=reducer.start,
            deliver=self.delivery,
            device=self._device,
        )
        self.captured: dict[str, Tensor] = {}
        """Rows that a captured CUDA graph fills at each replay, by kind."""
        self._rows: dict[str, Tensor] = {}

    def tell_of_shared(self) -> None:
        """Declare parameters that several optimizers step."""
        names = self.table.shared
        if names:
            self.delivery.describe(shared_params=names)
            warn(
                f"several optimizers step {', '.join(map(repr, names[:3]))}"
                f"{' and others' * (len(names) > 3)}: each step has a row of its own, and what "
                "needs the one learning rate or beta of a parameter is missing"
            )

    def tell_of_selection(self) -> None:
        """Warn where `include` and `exclude` leave no parameter."""
        names = self.table.passed_over
        if names:
            warn(
                f"`include` and `exclude` leave none of {len(names):,} parameters, which are named "
                f"like {names[0]!r}: nothing is recorded of them"
            )

    @property
    def nbytes(self) -> int:
        """Memory held on the device."""
        return self.stepper.nbytes + self.stream.nbytes

    @property
    def measures_layers(self) -> bool:
        """Whether rows of outputs and output gradients are wanted."""
        return "layers" in self._kinds

    def gradients(
        self,
        optimizer: Any,
        clock: StepClock,
        *,
        is_after: bool = False,
        will_step: bool = False,
    ) -> None:
        """Measure the gradients of a step, if its row is measured or captured."""
        if cuda_graphs.is_capturing():
            if not self.captured:
                self.captured = self._fixed_rows()
            self._rows = self.captured
        else:
            self._rows = self._open_rows(clock) if clock.is_measured else {}
        added = self._microbatches.take() if self._microbatches else None
        if added is not None and "noise" in self._rows:
            self._rows["noise"][:, 0] = added
        self.stepper.gradients(optimizer, self._rows, is_after=is_after, will_step=will_step)

    def after_step(self, optimizer: Any) -> None:
        """Measure what the step did."""
        self.stepper.after_step(optimizer, self._rows)
        self._rows = {}

    def add_layers(self, step: int, sums: Tensor) -> None:
        """Add the sums of a step's outputs and output gradients (layer, len(LAYER_SUMS))."""
        if cuda_graphs.is_capturing():
            self.captured["layers"] = sums
            return
        self.stream.open_row("layers", step).copy_(sums)

    def advance(self, clock: StepClock) -> None:
        """Give a step the rows that the replay of a captured graph has filled."""
        for kind in self._kinds_now(clock) & set(self.captured):
            self.stream.open_row(kind, clock.step).copy_(self.captured[kind])

    def discard(self) -> None:
        """Forget what the micro-batches added: it was zeroed before the step."""
        if self._microbatches:
            self._microbatches.discard()

    def close(self) -> None:
        """Remove the hooks on the parameters."""
        if self._microbatches:
            self._microbatches.close()

    def _kinds_now(self, clock: StepClock) -> set[str]:
        return set(self._kinds) - (set() if clock.has_histograms else {"histograms"})

    def _open_rows(self, clock: StepClock) -> dict[str, Tensor]:
        kinds = self._kinds_now(clock) - {"layers"}
        return {kind: self.stream.open_row(kind, clock.step) for kind in kinds}

    def _fixed_rows(self) -> dict[str, Tensor]:
        return {
            name: torch.full(kind.shape, torch.nan, dtype=torch.float64, device=self._device)
            for name, kind in self._kinds.items()
            if name != "layers"
        }
