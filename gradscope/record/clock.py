"""Which step it is, which round, whether its row is open, and whether it is measured.

A row belongs to one attempted step. Optimizers that step with no forward pass between them share a
row; one that has stepped already begins a new one, and so does one that trains a parameter of
another's that has. A round ends when every optimizer that takes
part has stepped; the cadence counts rounds, and all rows of a recorded round are measured, so that
every parameter is sampled alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gradscope.record.rows.cadence import Cadence

IDLE_ROWS = 100
"""An optimizer that has not stepped for so many rows no longer takes part in rounds."""


@dataclass(frozen=True)
class _Round:
    number: int = 0
    stepped: frozenset[int] = frozenset()
    is_recorded: bool = False
    has_histograms: bool = False
    n_recorded: int = 0


class StepClock:
    """Counts steps and rounds; it alone knows whether a row is open.

    Parameters
    ----------
    cadence : callable of round -> bool
        Which rounds are recorded.
    n_optimizers : int
    histogram_every : int
        Recorded rounds from one with histograms to the next.
    measures_all : bool
        Whether rows that are not recorded are measured too, for the flight recorder.

    Attributes
    ----------
    step : int
        Number of the present row; 0 before the first.
    is_open : bool
        Whether the present row waits for its first optimizer to step.
    is_paused : bool
    has_gap : bool
        Whether steps may have been taken unseen since the row before the present one.
    """

    def __init__(
        self,
        cadence: Cadence,
        n_optimizers: int,
        *,
        histogram_every: int = 10,
        measures_all: bool = False,
    ) -> None:
        self.step = 0
        self.is_open = False
        self.is_paused = False
        self.has_gap = False
        self._was_paused = False
        self._cadence = cadence
        self._histogram_every = histogram_every
        self._measures_all = measures_all
        self._n_optimizers = n_optimizers
        self._round = self._before = _Round()
        self._last_row = dict.fromkeys(range(n_optimizers), 0)
        self._in_row: set[int] = set()
        self._is_sealed = True
        self.idle = set(range(n_optimizers))
        """Optimizers that have not stepped since the recorder was attached."""

    @property
    def round(self) -> int:
        """Number of the present round; 0 before the first."""
        return self._round.number

    @property
    def n_finished(self) -> int:
        """Steps that were attempted and are over."""
        return self.step - self.is_open

    @property
    def is_recorded(self) -> bool:
        """Whether the cadence takes the present round."""
        return self._round.is_recorded

    @property
    def is_measured(self) -> bool:
        """Whether statistics of the present row are taken."""
        return self._measures_all or self._round.is_recorded

    @property
    def has_histograms(self) -> bool:
        """Whether the present row has histograms."""
        return self._round.has_histograms

    @property
    def next_round(self) -> int:
        """Number of the round that a row would belong to if it began now."""
        return self.round + self._ends_round()

    def pause(self) -> None:
        """Count nothing until `unpause`."""
        self.is_paused = self._was_paused = True

    def unpause(self) -> None:
        """Go on counting."""
        self.is_paused = False

    def next_is_measured(self) -> bool:
        """Whether a row that began now would be measured."""
        if self._measures_all or not self._ends_round():
            return self.is_measured
        return self._cadence(self.round + 1)

    def needs_row(self, optimizer: int, rivals: frozenset[int] = frozenset()) -> bool:
        """Whether the step of an optimizer begins a new row rather than joining the present one.

        ``rivals`` are other optimizers that train a parameter of its own.
        """
        if self.is_open:
            return False
        return self._is_sealed or optimizer in self._in_row or bool(rivals & self._in_row)

    def begin(self) -> None:
        """Begin the row of the next step."""
        self._before = self._round
        if self._ends_round():
            number = self._round.number + 1
            n, is_recorded = self._round.n_recorded, self._cadence(number)
            has_histograms = is_recorded and n % self._histogram_every == 0
            stepped: frozenset[int] = frozenset()
            self._round = _Round(number, stepped, is_recorded, has_histograms, n + is_recorded)
        self.step += 1
        self.has_gap, self._was_paused = self._was_paused, False
        self._in_row = set()
        self.is_open, self._is_sealed = True, False

    def end(self, optimizer: int) -> None:
        """Note that an optimizer has stepped, or that a scaler has skipped its step."""
        self.is_open = False
        self._in_row.add(optimizer)
        self.idle.discard(optimizer)
        self._last_row[optimizer] = self.step
        self._round = replace(self._round, stepped=self._round.stepped | {optimizer})

    def seal(self) -> None:
        """Let no other optimizer join the present row: it has left."""
        self._is_sealed = True

    def take_back(self) -> None:
        """Forget the present row, which never came to its end."""
        self.step -= 1
        self._round = self._before
        self.is_open, self._is_sealed = False, True

    @property
    def stepped(self) -> frozenset[int]:
        """Optimizers that have stepped in the present row."""
        return frozenset(self._in_row)

    def state(self) -> dict[str, int]:
        """Return what `resume` needs, without a row that is still open."""
        present = self._before if self.is_open else self._round
        return {
            "step": self.n_finished,
            "round": present.number,
            "n_recorded": present.n_recorded,
        }

    def resume(self, step: int, n_recorded: int, round_: int) -> None:
        """Go on from a checkpoint."""
        self.step, self._was_paused = step, True
        self._round = self._before = _Round(number=round_, n_recorded=n_recorded)
        self._round = replace(self._round, stepped=frozenset(range(self._n_optimizers)))
        self._last_row = dict.fromkeys(self._last_row, step)
        self.is_open, self._is_sealed = False, True

    def release(self) -> None:
        """Let go of the cadence, which may be somebody's method: no row begins any more."""
        self._cadence = lambda _round: False

    def _ends_round(self) -> bool:
        """Whether every optimizer that takes part has stepped in the present round."""
        if self._round.number == 0:
            return True
        taking_part = {o for o, row in self._last_row.items() if self.step - row < IDLE_ROWS}
        return bool(self._round.stepped) and taking_part <= self._round.stepped
