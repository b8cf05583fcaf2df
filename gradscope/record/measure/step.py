"""What is measured around one optimizer step: gradients before, moments and updates after."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import isnan
from typing import cast

import torch
from torch import Tensor

from gradscope import schema
from gradscope.record.measure.custom import CustomMeasures
from gradscope.record.measure.dense import data_of
from gradscope.record.measure.kept_grads import KeptGrads
from gradscope.record.measure.offered import OfferedSums
from gradscope.record.measure.on_device import OnDevice, as_scalar
from gradscope.record.measure.reference.backend import Backend
from gradscope.record.measure.reference.sums import (
    GRAD_LOG2_COUNTS,
    MOMENT_LOG2_COUNTS,
    PARAM_SUMS,
    STATE_STEP,
    EpsilonEdges,
)
from gradscope.record.measure.sketch import Sketcher
from gradscope.record.model.optimizers.adapter import Constants, Moments
from gradscope.record.model.optimizers.groups import adapter_of, group_of_params
from gradscope.record.model.params import ParamTable

Rows = Mapping[str, Tensor]
Readable = tuple[list[int], list[Tensor], list[Tensor], list[Tensor]]
SQUARE_SUM = PARAM_SUMS.index("grad_square_sum")
N_EPSILON = PARAM_SUMS.index("moment_n_epsilon")
UPDATE_GRAD_DOT = PARAM_SUMS.index("update_grad_dot")
OWN_BETA2 = 0.999
"""Decay of the second moment that the recorder keeps where the optimizer has none."""


class Stepper:
    """Fills the raw rows of one step after the other.

    Parameters
    ----------
    table : ParamTable
    backend : Backend
    groups : collection of str
        Names of the recorded groups.
    custom : CustomMeasures, optional
        The user's own.
    keeps_own : bool
        Whether to keep a second moment for parameters whose optimizer has none.
    sketch_seed : int
        One for each rank, so that sketches of shards add.
    """

    def __init__(
        self,
        table: ParamTable,
        backend: Backend,
        groups: Collection[str],
        *,
        custom: CustomMeasures | None = None,
        keeps_own: bool,
        sketch_seed: int = 0,
    ) -> None:
        self.table = table
        self.sketcher = Sketcher(sketch_seed)
        self._backend = OfferedSums(backend)
        self._groups = groups
        self._custom = custom
        self._keeps_own = keeps_own
        self._kept, self._unknown, self._noisy = OnDevice(), OnDevice(), OnDevice()
        self._edges_of: tuple[tuple[Constants, ...], EpsilonEdges] | None = None
        self._overwritten = OnDevice()
        self._kept_grads = KeptGrads()
        self._copies: dict[int, Tensor] = {}
        self.own: dict[str, tuple[Tensor, Tensor]] = {}
        """Own second moment and its step, by parameter name."""
        self._active: tuple[list[int], list[Tensor], list[Tensor]] = ([], [], [])
        self._before: list[Tensor] = []
        self._next_steps = torch.empty(0, device="cpu")

    @property
    def nbytes(self) -> int:
        """Memory held: one copy of the parameters; own moments and signs when asked for."""
        tensors = [*self._copies.values(), *(v for v, _ in self.own.values())]
        return sum(t.nbytes for t in tensors) + self.sketcher.nbytes

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Copy the parameters that the step will change, when gradients come with a closure."""
        self._backend.forget()
        params = self.table.owned(optimizer)
        if params and "updates" in self._groups:
            here = [(p, data) for p in params if (data := data_of(p)) is not None]
            params, datas = [p for p, _ in here], [data for _, data in here]
            torch._foreach_copy_(self._copies_of(params, datas), datas)

    def take_over(self, before: Stepper) -> None:
        """Go on with the second moments that another stepper has kept."""
        self.own = before.own

    def own_state(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Copy the recorder's own second moments and their steps, for a checkpoint."""
        return {name: (v.clone(), step.clone()) for name, (v, step) in self.own.items()}

    def load_own_state(
        self, state: Mapping[str, tuple[Tensor, Tensor]], device: torch.device
    ) -> None:
        """Go on from `own_state`."""
        self.own = {
            name: (v.to(device, copy=True), step.to(device, copy=True))
            for name, (v, step) in state.items()
        }

    def adopt(self, copies: Mapping[int, Tensor]) -> None:
        """Take over `early_copies`."""
        self._copies.update(copies)

    def gradients(
        self,
        optimizer: torch.optim.Optimizer,
        out: Rows,
        *,
        is_after: bool = False,
        will_step: bool = False,
    ) -> None:
        """Measure the gradients that the optimizer consumes.

        Parameters
        ----------
        optimizer : Optimizer
        out : mapping of str to Tensor
            Rows to fill by kind: "params", "histograms", "sketches", "noise"; none: do not measure.
        is_after : bool
            The step was made with a closure; the parameters before it are in the copies.
        will_step : bool
            The step comes next, so that the optimizer may be asked for its sums.
        """
        rows, params, grads, datas = self._readable(optimizer)
        self._active = rows, params, grads
        self._backend.forget()
        if "params" not in out:
            return
        wants_copies = "updates" in self._groups
        with torch.no_grad():
            if will_step and "noise" not in out and out["params"].is_cpu:
                self._ask(optimizer)
            copies = self._copies_of(params, datas) if wants_copies else []
            source = copies if is_after and wants_copies else datas
            self._backend.gradients(out["params"], rows, grads, source, [] if is_after else copies)
            if "histograms" in out:
                bins = schema.GRAD_BIN_RANGE
                self._backend.log2_counts(out["histograms"][:, GRAD_LOG2_COUNTS], rows, grads, bins)
            if "sketches" in out:
                for row, grad in zip(rows, grads, strict=True):
                    if not grad.is_complex():  # signs of what? missing
                        out["sketches"][row] = self.sketcher.sketch(self.table.params[row], grad)
            if "noise" in out:
                at = self._noisy.get(tuple(rows), out["noise"].device, torch.int64)
                squares = out["params"][:, SQUARE_SUM].index_select(0, at)
                out["noise"][:, 1].index_copy_(0, at, squares)
            if self._custom is not None:
                for row, p, grad in zip(rows, params, grads, strict=True):
                    self._custom.measure(out["functions"][row], p, grad, optimizer.state.get(p, {}))
            keeps = wants_copies and not is_after
            self._before = self._kept_grads.before(optimizer, grads) if keeps else grads

    def _readable(self, optimizer: torch.optim.Optimizer) -> Readable:
        """Rows, parameters, dense gradients and data of those that have any; see `dense`."""
        rows, params, grads, datas = found = cast("Readable", ([], [], [], []))
        for row, p in zip(*self.table.active(optimizer), strict=True):
            grad, data = data_of(p.grad), data_of(p)  # type: ignore[arg-type]
            if grad is not None and data is not None:
                rows.append(row)
                params.append(p)
                grads.append(grad)
                datas.append(data)
        return found

    def _ask(self, optimizer: torch.optim.Optimizer) -> None:
        """Ask for the sums of the step to come, where all of them are wanted; see `OfferedSums`."""
        rows, params, _ = self._active
        wants_all = {"updates", "second_moments"} <= set(self._groups) and not self._keeps_own
        if not (wants_all and self._backend.is_offered(optimizer, params)):
            return
        group_of = group_of_params(optimizer)
        groups = [group_of[id(p)] for p in params]
        constants = [known for _, known in groups]
        if any(isnan(number) for known in set(constants) for number in known):
            return
        step_of, state = adapter_of(optimizer).step_of, optimizer.state
        counts = [step_of(state.get(p, {}), g) for p, (g, _) in zip(params, groups, strict=True)]
        steps = [1 + float(count or 0) for count in counts]
        self._next_steps = torch.tensor(steps, dtype=torch.float64, device="cpu")
        edges = self._edges(constants, params[0].device).at(self._next_steps)
        self._backend.ask(optimizer, rows, params, edges)

    def _copies_of(self, params: list[Tensor], datas: list[Tensor]) -> list[Tensor]:
        """Return room for a copy of each; the data themselves where the optimizer sums for us."""
        found = []
        for p, data in zip(params, datas, strict=True):
            if self._backend.is_served(p):
                found.append(data)
                continue
            copy = self._copies.get(id(p))
            if copy is None or copy.dtype != p.dtype or copy.device != p.device:
                copy = self._copies[id(p)] = torch.full_like(data, torch.nan)
            found.append(copy)
        return found

    def update_own(self, grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
        """Let the recorder's own second moments take in the gradients of this step."""
        rows, _, grads = self._active
        if not self._keeps_own:
            return
        for row, grad in zip(rows, grads, strict=True):
            name = self.table.params[row].name
            if name not in self.own:
                v = torch.zeros_like(grad, dtype=torch.float32)
                self.own[name] = v, torch.zeros((), dtype=torch.float32, device=grad.device)
            v, step = (kept.to(grad.device) for kept in self.own[name])  # a model may move
            self.own[name] = v, step
            g = (grad.abs() if grad.is_complex() else grad).float()
            weight: float | Tensor = 1 - OWN_BETA2
            if grad_scale is not None:
                g = g / grad_scale
            if found_inf is not None:
                weight = weight * (1 - found_inf)
                g = g.nan_to_num(0.0, 0.0, 0.0)
            v.lerp_(g * g, weight)
            step += 1 if found_inf is None else (1 - found_inf).reshape(())

    def after_step(self, optimizer: torch.optim.Optimizer, out: Rows) -> None:
        """Measure updates and second moments into the rows of `gradients`."""
        if "params" not in out:
            return
        rows, params, grads = self._active
        with torch.no_grad():
            if "updates" in self._groups:
                after = [data_of(p) for p in params]
                before = self._copies_of(params, after)
                self._backend.updates(out["params"], rows, before, after, self._before)
                if not self._kept_grads.is_as_before(optimizer, self._before, grads):
                    at = self._overwritten.get(tuple(rows), out["params"].device, torch.int64)
                    out["params"][:, UPDATE_GRAD_DOT].index_fill_(0, at, torch.nan)
            if "second_moments" in self._groups or "histograms" in out:
                self._moments(optimizer, out)

    def _moments(self, optimizer: torch.optim.Optimizer, rows_out: Rows) -> None:
        out, rows = rows_out["params"], self._active[0]
        if self._backend.has_summed(rows) and "histograms" not in rows_out:
            at = self._kept.get(tuple(rows), out.device, torch.int64)
            out[:, STATE_STEP].index_copy_(0, at, self._next_steps)
            return
        found: list[tuple[int, Tensor, Tensor | None, Tensor]] = []
        constants: list[Constants] = []
        unknown: list[int] = []
        for row, moments, known in self._found(optimizer):
            if moments.exp_avg_sq is None or moments.exp_avg_sq.is_complex():
                continue
            exp_avg = None if moments.exp_avg is None else data_of(moments.exp_avg)
            found.append((row, data_of(moments.exp_avg_sq), exp_avg, as_scalar(moments.step)))
            constants.append(known)
            if moments.step is None or any(map(isnan, known)):
                unknown.append(row)
        if not found:
            return
        kept, v, m, steps = (list(column) for column in zip(*found, strict=True))
        step = torch.stack(steps).to(out.device, torch.float64, non_blocking=True)
        at = self._kept.get(tuple(kept), out.device, torch.int64)
        self._backend.moments(out, kept, v, m, *self._edges(constants, out.device).at(step))
        out[:, STATE_STEP].index_copy_(0, at, step)
        if unknown:
            out[:, N_EPSILON].index_fill_(
                0, self._unknown.get(tuple(unknown), out.device, torch.int64), torch.nan
            )
        if "histograms" in rows_out:
            target = rows_out["histograms"][:, MOMENT_LOG2_COUNTS]
            self._backend.log2_counts(target, kept, v, schema.MOMENT_BIN_RANGE)

    def _edges(self, constants: list[Constants], device: torch.device) -> EpsilonEdges:
        key = tuple(constants)
        if self._edges_of is None or self._edges_of[0] != key:
            columns = torch.tensor(key, dtype=torch.float64, device=device).T
            self._edges_of = key, EpsilonEdges(*columns)
        return self._edges_of[1]

    def _found(self, optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, Moments, Constants]]:
        """Iterate over the rows of the step: moments of the parameter, constants of its group."""
        adapter, group_of = adapter_of(optimizer), group_of_params(optimizer)
        rows, params, _ = self._active
        for row, p in zip(rows, params, strict=True):
            group, constants = group_of[id(p)]
            moments = adapter.moments(optimizer.state.get(p, {}), group, p.shape)
            own = self.own.get(self.table.params[row].name) if self.own else None
            if moments.exp_avg_sq is None and own is not None:
                moments = Moments(own[0], moments.exp_avg, own[1])
                constants = constants._replace(beta2=OWN_BETA2)
            yield row, moments, constants
