"""Chosen summaries of a recording, sent to where a team already looks: TensorBoard, W&B.

The recording stays the record; a sink gets a few curves of it, also while the training goes on:
call ``send`` now and then, and only what came since is sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.errors import UsageError

QUANTITIES = ("loss", "grad_norm", "update_ratio")


class _Sink:
    """Remembers how far each recorded quantity was sent.

    Parameters
    ----------
    target
        Where to.
    quantities : sequence of str
        Names of recorded or derived variables, of ``/training`` or by parameter or layer.
    include : str, optional
        Regular expression: parameters and layers to send; by default every ``weight``.
    """

    def __init__(
        self, target: Any, quantities: Sequence[str] = QUANTITIES, *, include: str = r"weight$"
    ) -> None:
        self._target = target
        self._places = {name: _group_of(name) for name in quantities}
        self._include = re.compile(include)
        self._sent = dict.fromkeys(quantities, -1)

    def send(self, tree: xr.DataTree) -> int:
        """Send what is new in a recording.

        Parameters
        ----------
        tree : DataTree
            ``recorder.data``, or from `gradscope.open_recording`.

        Returns
        -------
        int
            Number of points sent.
        """
        rows: dict[int, dict[str, float]] = {}
        for name, group in self._places.items():
            if group in tree.children and name in tree[group].data_vars:
                self._collect(tree[group].dataset[name], name, rows)
        for step in sorted(rows):
            self._write(step, rows[step])
        return sum(len(row) for row in rows.values())

    def _collect(self, data: xr.DataArray, name: str, rows: dict[int, dict[str, float]]) -> None:
        new = data.isel(step=np.flatnonzero(data["step"].values > self._sent[name]))
        if not new.sizes["step"]:
            return
        table = new.values.reshape(new.sizes["step"], -1)
        labels = _labels(new)
        is_named = {"param", "layer"} & set(new.dims)
        kept = [i for i, x in enumerate(labels) if not is_named or self._include.search(x)]
        for step, values in zip(new["step"].values.tolist(), table, strict=True):
            for i in kept:
                if np.isfinite(values[i]):
                    tag = "/".join(filter(None, ("gradscope", name, labels[i])))
                    rows.setdefault(step, {})[tag] = float(values[i])
        self._sent[name] = int(new["step"].values[-1])

    def _write(self, step: int, row: dict[str, float]) -> None:
        raise NotImplementedError


class TensorBoardSink(_Sink):
    """Send to a ``torch.utils.tensorboard.SummaryWriter``, one scalar a tag and step."""

    def _write(self, step: int, row: dict[str, float]) -> None:
        for tag, value in row.items():
            self._target.add_scalar(tag, value, step)


class WandbSink(_Sink):
    """Send to a run of ``wandb``, on an axis ``gradscope/step`` of its own."""

    def __init__(
        self, target: Any, quantities: Sequence[str] = QUANTITIES, *, include: str = r"weight$"
    ) -> None:
        super().__init__(target, quantities, include=include)
        target.define_metric("gradscope/*", step_metric="gradscope/step")

    def _write(self, step: int, row: dict[str, float]) -> None:
        self._target.log(row | {"gradscope/step": step})


def _group_of(quantity: str) -> str:
    try:
        group, variable = schema.find(quantity)
    except KeyError:
        raise UsageError(f"there is no quantity {quantity!r} to send") from None
    if len(variable.dims) > 2:
        raise UsageError(f"{quantity!r} is no curve: its dimensions are {variable.dims}")
    return group


def _labels(data: xr.DataArray) -> list[str]:
    """Name each column: the parameter or layer, a parameter group's number, or nothing."""
    dim = next((str(d) for d in data.dims if d != "step"), None)
    if dim is None:
        return [""]
    return [str(x) for x in (data[dim].values if dim in data.coords else range(data.sizes[dim]))]
