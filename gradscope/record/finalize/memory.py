"""Memory that a recording will hold, from the shapes alone: a model on the meta device will do."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from gradscope.record.finalize.kinds import row_kinds
from gradscope.record.measure.custom import Measure
from gradscope.record.measure.reference.quantities import functions_of
from gradscope.record.model.layers import LayerTable
from gradscope.record.model.modules import as_models
from gradscope.record.model.optimizers.unwrap import as_optimizers
from gradscope.record.model.params import ParamTable, Selector
from gradscope.record.rows.stream import capacity_of
from gradscope.record.settings import make_settings


@dataclass(frozen=True)
class RecordingMemory:
    """Bytes that a recording holds where the model is; constant over the steps.

    Parameters
    ----------
    copies : int
        Of the parameters, to compute their updates; 0 without the group ``updates``.
    own_moments : int
        With ``second_moment="own"``.
    signs : int
        Of sketches: a byte an entry.
    buffers : int
        Rows that wait for the writer.
    """

    copies: int
    own_moments: int
    signs: int
    buffers: int

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.copies + self.own_moments + self.signs + self.buffers


def estimate_memory(
    model: nn.Module | Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer],
    *,
    record: str | Collection[str] = "standard",
    include: Selector = None,
    exclude: Selector = None,
    second_moment: str = "optimizer",
    histogram_every: int | None = None,
    custom: Mapping[str, Measure] | None = None,
) -> RecordingMemory:
    """Say beforehand what a `Recorder` with these arguments will hold on the model's device.

    Nothing is allocated and nothing runs, so that the model may be on the meta device. Sharded
    parameters count as this process holds them.

    Parameters
    ----------
    model, optimizer, record, include, exclude, second_moment, histogram_every, custom
        See `gradscope.Recorder`.

    Returns
    -------
    RecordingMemory
        An upper bound: parameters that `gradscope.SMES` steps by its compiled CPU kernel are not
        copied, and own moments are kept only where the optimizer has none.

    Examples
    --------
    >>> import gradscope, torch
    >>> with torch.device("meta"):
    ...     model = torch.nn.Linear(20_000, 50_000)
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> gradscope.estimate_memory(model, optimizer).copies  # four bytes a parameter
    4000200000
    """
    settings = make_settings(
        every="auto",
        record=record,
        include=include,
        exclude=exclude,
        second_moment=second_moment,
        histogram_every=histogram_every,
        flight_recorder=0,
        custom=custom,
    )
    layers, optimizers = LayerTable(as_models(model)), as_optimizers(optimizer)
    layers.arrange()
    table = ParamTable(layers, optimizers, settings.is_selected)
    kinds = row_kinds(
        table,
        settings.groups,
        histogram_every=settings.histogram_every,
        functions=functions_of(settings.groups, settings.custom),
    )
    watched = [p for o in optimizers.values() for p in table.owned(o) if p.requires_grad]
    numel = sum(p.numel() for p in watched)
    return RecordingMemory(
        copies=sum(p.nbytes for p in watched) if "updates" in settings.groups else 0,
        own_moments=4 * numel if settings.keeps_own else 0,
        signs=numel if "sketches" in settings.groups else 0,
        buffers=sum(8 * capacity_of(kind) * math.prod(kind.shape) for kind in kinds),
    )
