"""A budget for recording: after a trial, so few rounds are recorded that the cost stays below it.

The trial alternates blocks of recorded and unrecorded rounds. The cost of a recorded round is what
its block took longer on the wall (which includes the device, where the host runs ahead of it), or
the host's own time if that is more. Then every K-th round of the cadence is recorded, K a power of
two, fixed for the rest of the run:

    (a + K u) / (K b) <= budget,

with a the extra time of a recorded round, u the host's time in an unrecorded one (hooks that look
and pass) and b the time of a round without any of it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from gradscope.errors import warn
from gradscope.record.rows.cadence import Cadence

WARM_UP = 10
"""Rounds before the trial: they compile, allocate and fill caches."""
BLOCK = 5
N_BLOCKS = 8
"""Blocks of the trial, recorded and not in turns."""
MAX_K = 1024


class Budget:
    """A cadence that thins another one so that recording costs no more than a share.

    Parameters
    ----------
    share : float
        Largest cost of recording relative to the training without it: 0.02 is two per cent.
    cadence : callable of round -> bool
        What is thinned.
    clock : callable, default time.perf_counter

    Attributes
    ----------
    thinning : int or None
        K; None before it is fixed.
    """

    def __init__(
        self, share: float, cadence: Cadence, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._share, self._cadence, self._clock = share, cadence, clock
        self.thinning: int | None = None
        self._asked, self._answer, self._n_taken = 0, False, 0
        self._first = 0
        self._blocks: list[tuple[float, float]] = []
        self._began, self._host = 0.0, 0.0

    def __call__(self, round_: int) -> bool:
        """Whether a round is recorded; rounds are asked in order, each any number of times."""
        if round_ != self._asked:
            self._asked, self._answer = round_, self._decide(round_)
        return self._answer

    def _decide(self, round_: int) -> bool:
        self._first = self._first or round_
        place = round_ - self._first - WARM_UP
        if self.thinning is None and place >= 0:
            return place // BLOCK % 2 == 0
        if not self._cadence(round_):
            return False
        self._n_taken += 1
        return self.thinning is None or (self._n_taken - 1) % self.thinning == 0

    def note(self, round_: int, host_seconds: float) -> None:
        """Note that a row of a round has ended.

        Parameters
        ----------
        round_ : int
        host_seconds : float
            Time that recording took on the training thread in this row.
        """
        if self.thinning is not None or not self._first:
            return
        place = round_ - self._first - WARM_UP + 1
        self._host += host_seconds
        if place != 0 and place != BLOCK * (len(self._blocks) + 1):
            return
        now = self._clock()
        if place:
            self._blocks.append((now - self._began, self._host))
        self._began, self._host = now, 0.0
        if len(self._blocks) == N_BLOCKS:
            self._fix()

    def _fix(self) -> None:
        """Choose K from the blocks of the trial."""
        (wall, host), (wall_without, host_without) = (
            [statistics.median(values) / BLOCK for values in zip(*blocks, strict=True)]
            for blocks in (self._blocks[::2], self._blocks[1::2])
        )
        extra = max(wall - wall_without, host - host_without, 0.0)
        allowed = self._share * (wall_without - host_without) - host_without
        k = 1
        while k < MAX_K and extra > k * allowed:
            k *= 2
        self.thinning = k
        if extra > k * allowed:
            idle = host_without / (wall_without - host_without)
            warn(
                f"max_overhead={self._share:g} cannot be met: hooks alone cost {idle:.1%} where "
                f"nothing is recorded; one in {k} steps is recorded from here on"
            )

    @property
    def attributes(self) -> dict[str, float]:
        """Root attributes: the share, and K once it is fixed."""
        fixed = {} if self.thinning is None else {"thinning": self.thinning}
        return {"max_overhead": self._share, **fixed}


def check_share(share: float) -> float:
    """Check a user's ``max_overhead``.

    Raises
    ------
    TypeError, ValueError
        If it is no number above 0, or above 1.
    """
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise TypeError(f"`max_overhead` must be a number such as 0.02; got {share!r}")
    if not 0 < share <= 1:
        raise ValueError(f"`max_overhead` must be above 0 and at most 1; got {share!r}")
    return float(share)
