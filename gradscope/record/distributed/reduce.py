"""From the raw rows of each rank to those of all: one gather to rank 0, then sums and maxima.

A message is a header, which must be the same on all ranks (what is measured, and at which steps),
and a body, which is combined number by number. Its length never changes while a recorder lives, so
that ranks that have lost step with each other find out instead of tearing the transport down.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gradscope.record.distributed.ranks import Ranks, is_counted, is_sharded
from gradscope.record.model.params import ParamTable
from gradscope.record.rows.batch import Batch
from gradscope.record.rows.kind import ADD, MAX, RowKind

POOLED = ("loss", "has_loss", "n_microbatches", "batch_size", "noise_parts")
"""Scalars that are of all ranks; the others are rank 0's."""


class RankExchange:
    """Rows of one batch, and their way to rank 0."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._reducer: Reducer | None = None
        self._work: Any = None

    def send(self, reducer: Reducer) -> None:
        """Start the gather; returns at once."""
        header, self._body, self._rule = reducer.pack(self._batch)
        self._header, self._window = header, reducer.ranks.window
        message = np.zeros(reducer.length)
        content = np.concatenate([header, self._body])
        message[: min(len(content), reducer.length)] = content[: reducer.length]
        try:
            self._sent = torch.from_numpy(message)
            self._work, self._all = reducer.ranks.gather(self._sent)
            self._reducer = reducer
        except RuntimeError as error:
            reducer.ranks.leave(f"rows could not be sent ({error})")

    @property
    def is_done(self) -> bool:
        """Whether `finish` would return without waiting."""
        return self._work is None or self._reducer is None or self._work.is_completed()

    def finish(self) -> Batch:
        """Return the rows of all ranks; waits for them, and keeps the own ones if they are lost."""
        if self._reducer is None or self._reducer.ranks.is_alone:
            return self._batch
        ranks = self._reducer.ranks
        try:
            self._work.wait()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            ranks.leave(f"a rank was lost or too late ({reason})", self._first_step())
            return self._batch
        if ranks.is_writer and self._agrees(ranks):
            n = len(self._header)
            bodies = [m.numpy()[n : n + len(self._body)] for m in self._all]
            batch = self._reducer.unpack(combine(bodies, self._rule), self._batch)
            ranks.forget(f"plan/{self._window}")
            return batch
        return self._batch

    def _first_step(self) -> int | None:
        steps = self._batch.facts.step
        return int(steps[0]) if len(steps) else None

    def _agrees(self, ranks: Ranks) -> bool:
        n, step = len(self._header), self._first_step()
        for rank, message in enumerate(self._all):
            if n + len(self._body) > len(message):
                ranks.leave("the model outgrew its messages", step)
            elif not np.array_equal(message.numpy()[:n], self._header):
                ranks.leave(f"rank {rank} recorded other layers or other steps", step)
        return not ranks.is_alone


class Reducer:
    """Knows what of a batch is of all ranks, for one table of parameters.

    Parameters
    ----------
    ranks : Ranks
    table : ParamTable
    kinds : collection of RowKind
    capacities : mapping of str to int
        How many rows of each kind a window may hold.
    """

    def __init__(
        self,
        ranks: Ranks,
        table: ParamTable,
        kinds: Collection[RowKind],
        capacities: dict[str, int],
    ) -> None:
        self.ranks = ranks
        self._kinds = tuple(kinds)
        tensors = [p.tensor for p in table.params]
        self._shared = [row for row, t in enumerate(tensors) if is_sharded(t)]
        self._foreign = [
            at for at, row in enumerate(self._shared) if not is_counted(tensors[row], ranks.rank)
        ]
        names = [f"{p.name}{tuple(p.tensor.shape)}" for p in table.params]
        names += [layer.label for layer in table.layers]
        self._print = float(zlib.crc32(" ".join(names).encode()))
        self.capacity = 0
        self.length = 0
        if not ranks.is_alone:
            self._fix_length(capacities)

    def _fix_length(self, capacities: dict[str, int]) -> None:
        n_steps = max(capacities.values())
        needed = 2 + len(self._kinds) + n_steps * (1 + len(POOLED))
        for kind in self._kinds:
            n_rows = kind.shape[0] if kind.reduce.is_local else len(self._shared)
            needed += capacities[kind.name] * (1 + int(np.prod(kind.shape[1:])) * n_rows)
        self.length = int(self.ranks.agree("length", lambda: str(needed)) or needed)
        self.capacity = max(1, min(n_steps, n_steps * self.length // needed))

    def start(self, batch: Batch) -> RankExchange:
        """Begin to exchange a batch with the other ranks, if there are any."""
        exchange = RankExchange(batch)
        if not self.ranks.is_alone:
            exchange.send(self)
        return exchange

    def pack(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return header, body and the rule for each number of the body."""
        steps, raw = batch.facts.step, batch.raw
        of_kinds = (raw[k.name].steps if k.name in raw else steps[:0] for k in self._kinds)
        lists = [steps, *of_kinds]
        header = np.concatenate([[self._print], [len(x) for x in lists], *lists])
        scalars = self._scalars(batch)
        pieces = [scalars[name] for name in POOLED]
        rules = [np.full(len(steps) * len(POOLED), ADD)]
        for kind, values in self._parts(batch):
            piece = values.copy()
            if not kind.reduce.is_local:
                piece[:, self._foreign] = np.nan
            rule = kind.reduce.rule
            columns = rule if isinstance(rule, int) else rule[kind.reduce.columns]
            pieces.append(piece.ravel())
            rules.append(np.broadcast_to(columns, piece.shape).ravel())
        return header, np.concatenate(pieces), np.concatenate(rules)

    def _scalars(self, batch: Batch) -> dict[str, np.ndarray]:
        """Own part of what is pooled; a number that is not known to one rank is known to none."""
        facts = batch.facts
        has_loss = np.nan_to_num(facts.has_loss)
        loss = batch.values.get("loss", np.zeros(len(facts.step)))
        return {
            "loss": np.where(has_loss > 0, loss, 0.0),
            "has_loss": has_loss,
            "n_microbatches": np.nan_to_num(facts.n_microbatches),
            "batch_size": np.nan_to_num(facts.batch_size),
            "noise_parts": facts.noise_parts,
        }

    def unpack(self, body: np.ndarray, batch: Batch) -> Batch:
        """Return the batch with combined numbers in the place of the own ones."""
        n = len(batch.facts.step)
        pooled = dict(zip(POOLED, body[: n * len(POOLED)].reshape(len(POOLED), n), strict=True))
        values = dict(batch.values)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean_loss = pooled["loss"] / pooled["has_loss"]
        if "loss" in values:
            values["loss"] = mean_loss
        counts = {name: np.where(pooled[name] > 0, pooled[name], np.nan) for name in POOLED[2:4]}
        values |= {name: counts[name] for name in counts if name in values}
        facts = replace(batch.facts, noise_parts=pooled["noise_parts"], **counts)
        at = n * len(POOLED)
        for kind, own in self._parts(batch):
            piece = body[at : at + own.size].reshape(own.shape)
            at += own.size
            self._put(kind, batch, piece)
        return Batch(values, facts, batch.raw)

    def _put(self, kind: RowKind, batch: Batch, piece: np.ndarray) -> None:
        target = batch.raw[kind.name].values
        if kind.reduce.is_local:
            target[..., kind.reduce.columns] = piece
        else:
            target[:, self._shared] = piece
        if kind.reduce.settle is not None:
            kind.reduce.settle(target, self.ranks.size, self._shared)

    def _parts(self, batch: Batch) -> list[tuple[RowKind, np.ndarray]]:
        """Kind and pooled values, in the order of a message."""
        found: list[tuple[RowKind, np.ndarray]] = []
        for kind in self._kinds:
            if kind.name in batch.raw:
                values = batch.raw[kind.name].values
                is_local = kind.reduce.is_local
                part = values[..., kind.reduce.columns] if is_local else values[:, self._shared]
                found.append((kind, part))
        return found


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
