"""Several processes that train one model: one file, global values, and nobody waits for the lost.

Rank 0 alone writes. Each rank measures its own batches and its own shards. Rows leave in windows of
steps that rank 0 lays down; it also decides a custom cadence, for a window at a time, and says both
through the store that ``torch.distributed`` was started with. At the end of a window the raw sums
go to rank 0 in one gather (`gradscope.record.distributed.reduce`), on a gloo group of its own: host
memory, a timeout that ends in a warning instead of the job's end, and no trace in torch's list of
groups.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch import Tensor

from gradscope.errors import warn
from gradscope.record.rows.cadence import Cadence

TIMEOUT_SECONDS = 120.0
"""A rank that lets the others wait longer is lost, and each goes on alone."""

WINDOW_SECONDS = 2.0
"""Rows leave about this often, counted in steps, so that all ranks agree."""

ALONE_SECONDS = 0.5
"""The same in one process, where no rank waits for another."""


def local(tensor: Tensor) -> Tensor:
    """Return the part of a sharded tensor (DTensor) that lies on this rank; others as they are."""
    is_ordinary = type(tensor) is Tensor  # most are; asking for an attribute takes longer
    return tensor if is_ordinary or not hasattr(tensor, "to_local") else tensor.to_local()


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is spread over ranks (DTensor), so that its sums add over them."""
    return hasattr(tensor, "to_local")


def is_counted(tensor: Tensor, rank: int) -> bool:
    """Whether this rank's part of a tensor goes into the global sums: each entry does once.

    Replicated parameters count on rank 0; shards that are replicated (hybrid sharding) on the first
    replica.
    """
    if not is_sharded(tensor):
        return rank == 0
    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return False
    return all(c == 0 for c, p in zip(coordinate, placements, strict=True) if not p.is_shard())


class Ranks:
    """The processes that train together, seen from one of them.

    Without an initialised ``torch.distributed`` there is one, and nothing is ever sent. Must be
    made on all ranks, like the recorder that makes it.

    Attributes
    ----------
    rank, size : int
    is_alone : bool
        Whether there is nobody (any more) to exchange rows with.
    lost_step : int or None
        First step whose rows are this rank's own, after the others were lost.
    """

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        self.is_alone = True
        self.lost_step: int | None = None
        self.window = 0
        self._store: Any = None
        self._group: Any = None
        self._end = 0
        self._length = 1
        self._began = 0.0
        self._decided: dict[int, bool] = {}
        self._ask: Cadence | None = None
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self._join()

    def _join(self) -> None:
        self.rank, self.size, self.is_alone = dist.get_rank(), dist.get_world_size(), False
        timeout = datetime.timedelta(seconds=TIMEOUT_SECONDS)
        try:
            store = dist.distributed_c10d._get_default_store()
            number = store.add(f"gradscope/{self.rank}", 1)
            self._store = dist.distributed_c10d.PrefixStore(f"gradscope/{number}", store)
            self._group = dist.ProcessGroupGloo(
                dist.distributed_c10d.PrefixStore("gloo", self._store),
                self.rank,
                self.size,
                timeout,
            )
        except (RuntimeError, AttributeError, ValueError) as error:
            self.leave(f"the ranks did not come together ({_first_line(error)})")

    @property
    def is_writer(self) -> bool:
        """Whether this process writes the file."""
        return self.rank == 0

    @property
    def attributes(self) -> dict[str, int]:
        """Root attributes that say how many ranks there were, and whether they were lost."""
        lost = {} if self.lost_step is None else {"local_since_step": self.lost_step}
        return {} if self.size == 1 else {"world_size": self.size, **lost}

    def leave(self, reason: str, step: int | None = None) -> None:
        """Go on alone from a step on (by default the present window's first), with one warning."""
        if self.is_alone:
            return
        self.is_alone = True
        self.lost_step = max(self._end - self._length, 1) if step is None else step
        self._group = None
        warn(
            f"gradscope on rank {self.rank} goes on alone: {reason}. Training is not touched; "
            "from here on the recording holds rank 0's own batches and shards",
            stacklevel=4,
        )

    def close(self) -> None:
        """Let go of the group."""
        self.is_alone = True
        self._group = self._store = None

    # -- words through the store --------------------------------------------------------------

    def agree(self, key: str, make: Callable[[], str]) -> str | None:
        """Return what rank 0 makes of ``make()``; None where it could not be heard."""
        if self.is_alone:
            return make() if self.is_writer else None
        try:
            if self.is_writer:
                text = make()
                self._store.set(key, text)
                return text
            self._store.wait([key], datetime.timedelta(seconds=TIMEOUT_SECONDS))
            heard: bytes = self._store.get(key)
            return heard.decode()
        except RuntimeError as error:
            self.leave(f"rank 0 could not be heard ({_first_line(error)})")
            return make() if self.is_writer else None

    def agree_on_number(self, number: int) -> int:
        """Return rank 0's number; 0 where it could not be heard."""
        return int(self.agree("number", lambda: str(number)) or 0)

    def forget(self, key: str) -> None:
        """Delete a key that every rank has read."""
        if not self.is_alone and self.is_writer:
            self._store.delete_key(key)

    # -- windows and cadence ------------------------------------------------------------------

    def is_due(self, step: int, seconds: float) -> bool:
        """Whether rows must leave before ``step``, ``seconds`` after they last did."""
        return seconds > ALONE_SECONDS if self.is_alone else step >= self._end

    def begin_window(self, step: int, capacity: int, round_: int) -> None:
        """Agree on the steps from ``step`` on that leave together: ``capacity`` at most.

        ``round_`` is the round that ``step`` belongs to; the cadence counts rounds.
        """
        if self.is_alone:
            return
        now = time.perf_counter()
        self.window += 1
        plan = self.agree(f"plan/{self.window}", lambda: self._plan(round_, capacity, now))
        if plan is None:
            return
        length, _, bits = plan.partition(" ")
        self._length, self._end, self._began = int(length), step + int(length), now
        self._decided = {round_ + i: bit == "1" for i, bit in enumerate(bits)}

    def _plan(self, round_: int, capacity: int, now: float) -> str:
        """Lay down windows that double until they last `WINDOW_SECONDS`."""
        seconds = (now - self._began) / self._length if self._began else WINDOW_SECONDS
        fitting = int(WINDOW_SECONDS / max(seconds, 1e-9))
        length = max(1, min(2 * self._length if self._began else 1, fitting, capacity))
        if self._ask is None:
            return str(length)
        rounds = range(round_, round_ + length)
        bits = (self._decided[k] if k in self._decided else bool(self._ask(k)) for k in rounds)
        return f"{length} {''.join('01'[bit] for bit in bits)}"

    def decide(self, cadence: Cadence) -> Cadence:
        """Let rank 0 decide a user's own cadence; it is asked for a window of steps at a time."""
        if self.is_alone:
            return cadence
        self._ask = cadence
        return lambda step: self._decided[step] if step in self._decided else bool(cadence(step))

    # -- rows ---------------------------------------------------------------------------------

    def gather(self, message: Tensor) -> tuple[Any, list[Tensor]]:
        """Start to send a message to rank 0; the work, and on rank 0 where all will stand."""
        here = [message.new_empty(message.shape) for _ in range(self.size * self.is_writer)]
        options = dist.GatherOptions()
        options.rootRank = 0
        return self._group.gather([here] if here else [], [message], options), here


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]
