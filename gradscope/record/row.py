"""The row of the step in progress: when it begins, what it holds, when it leaves."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from gradscope.errors import warn
from gradscope.native import cuda_graphs
from gradscope.record.clock import StepClock
from gradscope.record.hooks.activations import Activations
from gradscope.record.hooks.batch_size import LOGGED
from gradscope.record.hooks.grad_clip import Clipping, ClipWatch
from gradscope.record.measure.step import OWN_BETA2
from gradscope.record.model.optimizers.groups import read_groups
from gradscope.record.pipeline import Stages
from gradscope.record.rows.scalars import ScalarRows
from gradscope.record.tables import Tables

MAX_BITS = 53
"""Optimizers that fit into the bits of a float64."""


class OptimizerFacts:
    """Fills hyper-parameters, the clip coefficient and which optimizers stepped into a row.

    Parameters
    ----------
    optimizers : mapping of str to Optimizer
    scalars : ScalarRows
    keeps_own : bool
        Whether the recorder keeps second moments where an optimizer has none.
    """

    def __init__(
        self,
        optimizers: Mapping[str, torch.optim.Optimizer],
        scalars: ScalarRows,
        *,
        keeps_own: bool,
    ) -> None:
        self._optimizers = optimizers
        self._scalars = scalars
        self._own_beta2 = OWN_BETA2 if keeps_own else None
        self._clipping: Clipping | None = None

    def begin(self) -> None:
        """Begin a new row."""
        self._clipping = None

    def clip_coefficient(
        self,
        clip: ClipWatch,
        optimizer: torch.optim.Optimizer,
        owners: Mapping[int, Collection[int]],
    ) -> float | torch.Tensor | None:
        """Return the factor of clipping for a step: None without, NaN where it is not one number.

        Optimizers that share a row must have been clipped together, or not at all. ``owners`` are
        those of each parameter that several train, by its id.
        """
        params = [p for group in optimizer.param_groups for p in group["params"]]
        clipping, shared = clip.take(params, owners), self._clipping
        self._clipping = clipping
        coefficient = clipping.coefficient
        if shared is not None and shared.calls != clipping.calls:
            coefficient = math.nan
        if isinstance(coefficient, float):
            self._scalars.set_fact("is_clip_unknown", 1.0)
        elif coefficient is not None:
            self._scalars.set_fact("is_clip_unknown", coefficient.isnan().double())
        return coefficient

    def note(self, clock: StepClock) -> None:
        """Note the hyper-parameters of every group as used, and which optimizers stepped."""
        n, stepped = len(self._optimizers), clock.stepped
        if n > 1:
            bits = sum(2**i for i in stepped if i < MAX_BITS)
            self._scalars.set("optimizer", bits if len(stepped) < n else 0)
        values, facts = read_groups(self._optimizers.values(), self._own_beta2)
        for name, column in values.items():
            self._scalars.set_groups(name, column)
        for name, column in facts.items():
            self._scalars.set_groups(name, column, is_fact=True)


class StepRows:
    """Opens, fills and sends the rows of steps.

    Parameters
    ----------
    optimizers : mapping of str to Optimizer
    stages : Stages
    tables : Tables
    activations : Activations
    clock : StepClock

    Attributes
    ----------
    seconds : float
        Host time that recording took so far.
    last_loss : float or Tensor
        The loss logged last.
    last_step : int
        Last step of a resumed recording whose state has not been loaded; else 0.
    is_unfinished : bool
        Whether the present row still lacks what is known only at its end.
    """

    def __init__(
        self,
        optimizers: Mapping[str, torch.optim.Optimizer],
        stages: Stages,
        tables: Tables,
        activations: Activations,
        clock: StepClock,
    ) -> None:
        self.seconds = 0.0
        self.n_losses = 0
        self.last_loss: Any = 0.0
        self.last_step = 0
        self.is_unfinished = False
        self._sources: dict[str, None] = {}
        self._n_said = 0
        self.facts = OptimizerFacts(optimizers, stages.scalars, keeps_own=stages.settings.keeps_own)
        self._scalars, self._ranks = stages.scalars, stages.ranks
        self._budget = stages.settings.budget
        self._has_layers = "activations" in stages.settings.groups
        self._tables, self._activations, self._clock = tables, activations, clock

    def open(self) -> None:
        """Begin the row of the next step, unless one is open already."""
        clock, pipeline = self._clock, self._tables.pipeline
        if clock.is_open:
            return
        self.go_on()
        self.finish()
        step = clock.step
        if pipeline is not None:
            is_due = pipeline.stream.send_due(
                step, lambda seconds: self._ranks.is_due(step + 1, seconds)
            )
            capacity = pipeline.window_capacity
        else:
            is_due, capacity = self._ranks.is_due(step + 1, 0.0), 1
        if is_due:
            self._ranks.begin_window(step + 1, capacity, clock.next_round)
        clock.begin()
        self._scalars.open_row(clock.step)
        self._scalars.set("round", clock.round)
        self._scalars.set_fact("is_recorded", clock.is_recorded)
        if clock.has_gap:
            self._scalars.set_fact("follows_gap", 1.0)
        self.facts.begin()
        self.is_unfinished = True

    def go_on(self) -> None:
        """Count on behind a resumed recording that came without a state of its training."""
        last, self.last_step = self.last_step, 0
        if not last:
            return
        self._clock.resume(last, 0, last)
        warn(
            f"the recording is resumed without load_state_dict: gradscope keeps its {last:,} steps "
            f"and counts on from step {last + 1:,}. To resume from a checkpoint, call "
            "recorder.load_state_dict with what recorder.state_dict() gave there"
        )

    def log(self, name: str, value: Any) -> None:
        """Put one number into the row of the step in progress, or of the last finished one."""
        if not len(self._scalars):
            self.open()
        self._scalars.set(name, value)
        if name == "batch_size":
            self._note_sources(LOGGED)
        if name == "loss":
            self._scalars.set_fact("has_loss", 1.0)
            self.n_losses += 1
            value = value.detach() if isinstance(value, Tensor) else float(value)
            self.last_loss = float(value) if getattr(value, "is_cpu", True) else value

    def drop(self) -> None:
        """Forget the present row, which never came to its end, and what was gathered for it."""
        self._scalars.drop_last()
        self._clock.take_back()
        self.is_unfinished = False

    def finish(self) -> None:
        """Complete the row of a step that is over with what is known only at its end."""
        if not self.is_unfinished or self._clock.is_open or not len(self._scalars):
            return
        self.is_unfinished = False
        began = time.perf_counter()
        for name, value in self.take_passes().items():
            self._scalars.set(name, value)
        self.spend(time.perf_counter() - began)
        if self._budget:
            self._budget.note(self._clock.round, self._scalars.get("record_time") or 0.0)

    @property
    def attributes(self) -> dict[str, float]:
        """Root attributes that are known at the end."""
        return {"record_seconds": self.seconds, **(self._budget.attributes if self._budget else {})}

    def spend(self, seconds: float) -> None:
        """Count host time that recording took, for the run and for the row."""
        self.seconds += seconds
        self._scalars.set("record_time", seconds + (self._scalars.get("record_time") or 0.0))

    def take_passes(self) -> dict[str, Any]:
        """Hand over the sums of the step's passes, and return what they say of the step."""
        sums, counts = self._activations.take()
        pipeline, known = self._tables.pipeline, {}
        if counts.n_microbatches:
            known["n_microbatches"] = counts.n_microbatches
            if pipeline is not None and self.wants_layers(self._clock.is_measured):
                pipeline.add_layers(self._clock.step, sums)
        is_logged = self._scalars.get("batch_size") is not None
        if counts.batch_size and not is_logged:
            known["batch_size"] = counts.batch_size
        self._note_sources(*(() if is_logged else counts.sources))
        if counts.noise_parts:
            self._scalars.set_fact("noise_parts", counts.noise_parts)
        return known

    def _note_sources(self, *sources: str) -> None:
        """Say in the recording how its batch sizes are known."""
        self._sources |= dict.fromkeys(sources)
        if len(self._sources) > self._n_said and self._tables.pipeline is not None:
            self._n_said = len(self._sources)
            said = "; ".join(self._sources)
            self._tables.pipeline.delivery.describe(batch_size_source=said)

    def wants_layers(self, is_measured: bool) -> bool:
        """Whether a row that is measured, or captured, has statistics of layers."""
        return self._has_layers and (is_measured or cuda_graphs.is_capturing())

    def flush(self) -> None:
        """Bring every finished row to the writer, waiting for the device.

        With several ranks: the rows that have been sent, since those of an unfinished window leave
        on all ranks at once or never.
        """
        if self._tables.pipeline is None:
            return
        if self._ranks.is_alone:
            self.send_all()
        else:
            self._tables.pipeline.stream.drain(wait=True)

    def send_all(self, *, is_last: bool = False) -> None:
        """Send the rows of all steps that are over."""
        self.finish()
        if not self._clock.is_open:
            self._clock.seal()
        if self._tables.pipeline is not None:
            stream = self._tables.pipeline.stream
            n = len(self._scalars) - self._clock.is_open
            stream.send(n, self._clock.n_finished, is_last=is_last)
            stream.drain(wait=True)
