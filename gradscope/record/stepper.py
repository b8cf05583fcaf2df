"""What is measured around one optimizer step: gradients before, moments and updates after."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from gradscope import schema
from gradscope.record.backends import Backend
from gradscope.record.distributed import local
from gradscope.record.measures import (
    GRAD_OCTAVES,
    MOMENT_OCTAVES,
    PARAM_SUMS,
    STATE_STEP,
    epsilon_thresholds,
)
from gradscope.record.optimizers import Moments, alpha_of, has_bias_correction, read_moments
from gradscope.record.params import ParamTable
from gradscope.record.sketches import Sketcher

Rows = Mapping[str, Tensor]
SQUARE_SUM = PARAM_SUMS.index("grad_square_sum")
N_EPSILON = PARAM_SUMS.index("moment_n_epsilon")
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
    keeps_own : bool
        Whether to keep a second moment for parameters whose optimizer has none.
    sketch_seed : int
        One for each rank, so that sketches of shards add.
    """

    def __init__(
        self, table: ParamTable, backend: Backend, groups: Collection[str], *, keeps_own: bool,
        sketch_seed: int = 0,
    ) -> None:  # fmt: skip
        self.table = table
        self.sketcher = Sketcher(sketch_seed)
        self._backend = backend
        self._groups = groups
        self._keeps_own = keeps_own
        self._constants: tuple[tuple, Tensor] | None = None
        self._copies: dict[int, Tensor] = {}
        self.own: dict[str, tuple[Tensor, Tensor]] = {}
        """Own second moment and its step, by parameter name."""
        self._active: tuple[list[int], list[Tensor], list[Tensor]] = ([], [], [])

    @property
    def nbytes(self) -> int:
        """Memory held: one copy of the parameters; own moments and signs when asked for."""
        tensors = [*self._copies.values(), *(v for v, _ in self.own.values())]
        return sum(t.nbytes for t in tensors) + self.sketcher.nbytes

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Copy the parameters that the step will change, when gradients come with a closure."""
        params = self.table.owned(optimizer)
        if params and "updates" in self._groups:
            torch._foreach_copy_(self._copies_of(params), [_data(p) for p in params])

    def gradients(
        self, optimizer: torch.optim.Optimizer, out: Rows, *, is_after: bool = False
    ) -> None:
        """Measure the gradients that the optimizer consumes.

        Parameters
        ----------
        optimizer : Optimizer
        out : mapping of str to Tensor
            Rows to fill by kind: "params", "histograms", "sketches", "noise"; none: do not measure.
        is_after : bool
            The step was made with a closure; the parameters before it are in the copies.
        """
        rows, params = self.table.active(optimizer)
        grads = [_data(p.grad) for p in params if p.grad is not None]
        self._active = rows, params, grads
        if "params" not in out:
            return
        wants_copies = "updates" in self._groups
        with torch.no_grad():
            copies = self._copies_of(params) if wants_copies else []
            source = copies if is_after and wants_copies else [_data(p) for p in params]
            self._backend.gradients(out["params"], rows, grads, source, [] if is_after else copies)
            if "histograms" in out:
                bins = schema.GRAD_BIN_RANGE
                self._backend.octaves(out["histograms"][:, GRAD_OCTAVES], rows, grads, bins)
            if "sketches" in out:
                for row, grad in zip(rows, grads, strict=True):
                    out["sketches"][row] = self.sketcher.sketch(self.table.params[row], grad)
            if "noise" in out:
                out["noise"][rows, 1] = out["params"][rows, SQUARE_SUM]

    def _copies_of(self, params: list[Tensor]) -> list[Tensor]:
        for p in params:
            copy = self._copies.get(id(p))
            if copy is None or copy.dtype != p.dtype or copy.device != p.device:
                self._copies[id(p)] = torch.empty_like(_data(p))
        return [self._copies[id(p)] for p in params]

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
            v, step = self.own[name]
            g = grad.detach().float()
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
                before, after = self._copies_of(params), [_data(p) for p in params]
                self._backend.updates(out["params"], rows, before, after, grads)
            if "second_moments" in self._groups or "histograms" in out:
                self._moments(optimizer, out)

    def _moments(self, optimizer: torch.optim.Optimizer, rows_out: Rows) -> None:
        out = rows_out["params"]
        rows, params, _ = self._active
        group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        found: list[tuple[int, Tensor, Tensor | None, Tensor]] = []
        constants: list[tuple[float, float, float]] = []
        for row, p in zip(rows, params, strict=True):
            moments = self._find(optimizer, row, p)
            if moments.exp_avg_sq is None:
                continue
            step = torch.as_tensor(float("nan") if moments.step is None else moments.step)
            exp_avg = None if moments.exp_avg is None else _data(moments.exp_avg)
            found.append((row, _data(moments.exp_avg_sq), exp_avg, step))
            constants.append(_constants(optimizer, group_of[id(p)], self._is_own(row, moments)))
        if not found:
            return
        kept, v, m, steps = (list(column) for column in zip(*found, strict=True))
        step = torch.stack([s.reshape(()).to(out.device, torch.float64) for s in steps])
        alpha, beta2, eps = self._on_device(tuple(constants), out.device).T
        below, above = epsilon_thresholds(alpha, beta2, eps, step)
        self._backend.moments(out, kept, v, m, below, above)
        out[kept, STATE_STEP] = step
        if "histograms" in rows_out:
            target = rows_out["histograms"][:, MOMENT_OCTAVES]
            self._backend.octaves(target, kept, v, schema.MOMENT_BIN_RANGE)
        unknown = [
            row for row, (exponent, *_) in zip(kept, constants, strict=True) if exponent != exponent
        ]
        out[unknown, N_EPSILON] = torch.nan

    def _on_device(self, constants: tuple, device: torch.device) -> Tensor:
        """Constants of the parameters (param, 3), kept so that no step copies them again."""
        if self._constants is None or self._constants[0] != constants:
            values = torch.tensor(constants, dtype=torch.float64).to(device)
            self._constants = constants, values
        return self._constants[1]

    def _find(self, optimizer: torch.optim.Optimizer, row: int, p: Tensor) -> Moments:
        moments = read_moments(optimizer.state.get(p, {}), p.shape)
        name = self.table.params[row].name
        if moments.exp_avg_sq is None and name in self.own:
            v, step = self.own[name]
            return Moments(v, moments.exp_avg, step)
        return moments

    def _is_own(self, row: int, moments: Moments) -> bool:
        own = self.own.get(self.table.params[row].name)
        return own is not None and moments.exp_avg_sq is own[0]


def _data(tensor: Tensor) -> Tensor:
    """What of a tensor lies here, outside the graph."""
    return local(tensor.detach())


def _constants(
    optimizer: torch.optim.Optimizer, group: dict, is_own: bool
) -> tuple[float, float, float]:
    """Return alpha, beta2 (0 without bias correction) and eps; NaN where unknown."""
    eps = float(group.get("eps", torch.nan))
    if is_own:
        return alpha_of(optimizer, group), OWN_BETA2, eps
    beta2 = float(group["betas"][1]) if has_bias_correction(optimizer, group) else 0.0
    return alpha_of(optimizer, group), beta2, eps
