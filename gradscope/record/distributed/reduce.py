"""From the raw rows of each rank to those of all: one gather to rank 0, then sums and maxima.

A message is a header, which must be the same on all ranks (what is measured, and at which steps),
and a body, which is combined number by number. Its length never changes while a recorder lives, so
that ranks that have lost step with each other find out instead of tearing the transport down.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gradscope.record.distributed.ranks import Ranks, is_counted, is_sharded
from gradscope.record.finalize.finalizer import RawRows
from gradscope.record.measure.reference.sums import LAYER_SUMS, MAXIMA, PARAM_SUMS
from gradscope.record.model.params import ParamTable

Training = dict[str, np.ndarray]
Raw = dict[str, RawRows]

ADD, SUM, MAX = 0, 1, 2
"""How numbers combine: NaN if any is; over those that are not missing (NaN); the largest."""

KINDS = ("params", "layers", "histograms", "sketches", "noise")
POOLED = ("loss", "_has_loss", "n_microbatches", "batch_size")
"""Variables of ``/training`` that are of all ranks; the others are rank 0's."""


class Exchange:
    """Rows of one batch, and their way to rank 0."""

    def __init__(self, training: Training, raw: Raw) -> None:
        self._rows = training, raw
        self._pool: Pool | None = None
        self._work: Any = None

    def send(self, pool: Pool) -> None:
        """Start the gather; returns at once."""
        header, self._body, self._rule = pool.pack(*self._rows)
        self._header, self._window = header, pool.ranks.window
        message = np.zeros(pool.length)
        content = np.concatenate([header, self._body])
        message[: min(len(content), pool.length)] = content[: pool.length]
        try:
            self._sent = torch.from_numpy(message)
            self._work, self._all = pool.ranks.gather(self._sent)
            self._pool = pool
        except RuntimeError as error:
            pool.ranks.leave(f"rows could not be sent ({error})")

    @property
    def is_done(self) -> bool:
        """Whether `finish` would return without waiting."""
        return self._work is None or self._pool is None or self._work.is_completed()

    def finish(self) -> tuple[Training, Raw]:
        """Return the rows of all ranks; waits for them, and keeps the own ones if they are lost."""
        if self._pool is None or self._pool.ranks.is_alone:
            return self._rows
        ranks = self._pool.ranks
        try:
            self._work.wait()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            ranks.leave(f"a rank was lost or too late ({reason})", self._first_step())
            return self._rows
        if ranks.is_writer and self._agrees(ranks):
            n = len(self._header)
            bodies = [m.numpy()[n : n + len(self._body)] for m in self._all]
            self._pool.unpack(combine(bodies, self._rule), *self._rows)
            ranks.forget(f"plan/{self._window}")
        return self._rows

    def _first_step(self) -> int | None:
        steps = self._rows[0].get("step")
        return None if steps is None else int(steps[0])

    def _agrees(self, ranks: Ranks) -> bool:
        n, step = len(self._header), self._first_step()
        for rank, message in enumerate(self._all):
            if n + len(self._body) > len(message):
                ranks.leave("the model outgrew its messages", step)
            elif not np.array_equal(message.numpy()[:n], self._header):
                ranks.leave(f"rank {rank} recorded other layers or other steps", step)
        return not ranks.is_alone


class Pool:
    """Knows what of a batch is of all ranks, for one table of parameters.

    Parameters
    ----------
    ranks : Ranks
    table : ParamTable
    shapes : mapping
        Kind of row to how many a window may hold and the shape of each.
    """

    def __init__(
        self, ranks: Ranks, table: ParamTable, shapes: Mapping[str, tuple[int, tuple[int, ...]]]
    ) -> None:
        self.ranks = ranks
        tensors = [p.tensor for p in table.params]
        self._shared = [row for row, t in enumerate(tensors) if is_sharded(t)]
        self._foreign = [row for row in self._shared if not is_counted(tensors[row], ranks.rank)]
        names = [f"{p.name}{tuple(p.tensor.shape)}" for p in table.params]
        names += [layer.name for layer in table.layers]
        self._print = float(zlib.crc32(" ".join(names).encode()))
        self.capacity = 0
        self.length = 0
        if not ranks.is_alone:
            self._fix_length(shapes)

    def _fix_length(self, shapes: Mapping[str, tuple[int, tuple[int, ...]]]) -> None:
        n_steps = max(capacity for capacity, _ in shapes.values())
        needed = 2 + len(KINDS) + n_steps * (1 + len(POOLED))
        for kind, (capacity, shape) in shapes.items():
            n_rows = shape[0] if kind in ("layers", "noise") else len(self._shared)
            needed += capacity * (1 + int(np.prod(shape[1:])) * n_rows)
        self.length = int(self.ranks.agree("length", lambda: str(needed)) or needed)
        self.capacity = max(1, min(n_steps, n_steps * self.length // needed))

    def start(self, training: Training, raw: Raw) -> Exchange:
        """Begin to exchange a batch with the other ranks, if there are any."""
        exchange = Exchange(training, raw)
        if not self.ranks.is_alone:
            exchange.send(self)
        return exchange

    def pack(self, training: Training, raw: Raw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return header, body and the rule for each number of the body."""
        steps = training.get("step", np.zeros(0))
        lists = [steps] + [raw[k].steps if k in raw else np.zeros(0) for k in KINDS]
        header = np.concatenate([[self._print], [len(x) for x in lists], *lists])
        pieces = [np.nan_to_num(training.get(name, np.zeros(len(steps)))) for name in POOLED]
        if "loss" in training:
            pieces[0] = np.where(pieces[1] > 0, training["loss"], 0.0)
        rules = [np.full(len(steps) * len(POOLED), ADD)]
        for kind, values, columns in self._parts(raw):
            piece = values.copy()
            if kind not in ("layers", "noise"):
                piece[:, [self._shared.index(row) for row in self._foreign]] = np.nan
            pieces.append(piece.ravel())
            rules.append(np.broadcast_to(columns, piece.shape).ravel())
        return header, np.concatenate(pieces), np.concatenate(rules)

    def unpack(self, body: np.ndarray, training: Training, raw: Raw) -> None:
        """Put combined numbers in the place of the own ones."""
        n = len(training.get("step", ()))
        pooled = dict(zip(POOLED, body[: n * len(POOLED)].reshape(len(POOLED), n), strict=True))
        with np.errstate(invalid="ignore", divide="ignore"):
            mean_loss = pooled["loss"] / pooled["_has_loss"]
        if "loss" in training:
            training["loss"] = mean_loss
        for name in ("n_microbatches", "batch_size"):
            if name in training:
                training[name] = np.where(pooled[name] > 0, pooled[name], np.nan)
        at = n * len(POOLED)
        for kind, values, _ in self._parts(raw):
            piece = body[at : at + values.size].reshape(values.shape)
            at += values.size
            if kind == "layers":
                raw[kind].values[:] = piece
            elif kind == "noise":  # what a micro-batch adds to the mean over ranks
                raw[kind].values[..., 0] = piece / self.ranks.size**2
                raw[kind].values[:, self._shared, 0] = np.nan  # sharded gradients come reduced
            else:
                raw[kind].values[:, self._shared] = piece

    def _parts(self, raw: Raw) -> list[tuple[str, np.ndarray, np.ndarray | int]]:
        """Kind, pooled values and rule by column, in the order of a message."""
        found: list[tuple[str, np.ndarray, np.ndarray | int]] = []
        for kind in KINDS:
            if kind in raw:
                values = raw[kind].values
                if kind == "noise":
                    values = values[..., 0]
                elif kind != "layers":
                    values = values[:, self._shared]
                found.append((kind, values, _RULES.get(kind, SUM)))
        return found


_RULES = {
    "params": np.array([MAX if n in MAXIMA or n == "state_step" else SUM for n in PARAM_SUMS]),
    "layers": np.array([MAX if name in MAXIMA else SUM for name in LAYER_SUMS]),
}


def combine(bodies: list[np.ndarray], rule: np.ndarray) -> np.ndarray:
    """Combine messages of equal layout, number by number.

    >>> a, b = np.array([1.0, np.nan, 1.0, np.nan]), np.array([2.0, 2.0, 5.0, np.nan])
    >>> combine([a, b], np.array([ADD, SUM, MAX, SUM]))
    array([ 3.,  2.,  5., nan])
    """
    stacked = np.stack(bodies)
    missing = np.isnan(stacked)
    some = np.where(missing.all(axis=0), np.nan, np.where(missing, 0.0, stacked).sum(axis=0))
    peak = np.fmax.reduce(stacked, axis=0)
    return np.where(rule == MAX, peak, np.where(rule == ADD, stacked.sum(axis=0), some))
