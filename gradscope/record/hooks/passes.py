"""Forward passes and the backward calls that go through them, for the step in progress."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import Module

from gradscope.record.guard import Guard
from gradscope.record.hooks.accumulation import (
    Accumulation,
    at_end_of_backward,
    is_in_backward,
    is_question,
)
from gradscope.record.hooks.batch_size import (
    DIFFERENT_MODELS,
    MANY_CALLS,
    NO_PASS,
    UNLIKE_CALLS,
    UNSEEN,
    Examples,
)
from gradscope.record.measure.reference.sums import OUTPUT_SUMS

MAX_RECENT = 16
"""Passes that can still be found by number; older ones never got a gradient."""
MAX_WITHOUT_STEP = 100
"""Backward calls that are thrown away before the first step before a warning says so."""
MAX_ALIKE = 3
"""Passes of one model before a backward call that may be views of one batch; more may be steps of
time, or of an episode."""


class Pass:
    """One forward pass: the sums of its outputs if it is measured.

    Parameters
    ----------
    number : int
    root : Module or None
        What was called from outside, if it is known.
    """

    sums: Tensor
    rows: tuple[Tensor, ...]

    def __init__(self, number: int, root: Module | None = None) -> None:
        self.number = number
        self.root = root
        self.examples = UNSEEN
        self.is_measured = False
        self.seen: set[int] = set()
        self.grad_call: dict[int, Call] = {}
        """By the id of a layer's module, as ``seen``."""
        self.calls: list[Call] = []

    def measure(self, n_layers: int, device: torch.device) -> None:
        """Make a row of sums for each layer."""
        self.is_measured = True
        self.sums = torch.zeros(n_layers, len(OUTPUT_SUMS), dtype=torch.float64, device=device)
        self.rows = self.sums.unbind()

    def rearrange(self, places: list[int]) -> None:
        """Give each layer the row that it has now; ``places`` are where the rows stood, or -1."""
        if self.is_measured:
            self.sums = rearranged(self.sums, places)
            self.rows = self.sums.unbind()


@dataclass(eq=False)
class Call:
    """One backward call that reaches the parameters, and the passes that it goes through.

    ``tasks`` are autograd's numbers of the call and of those inside it that carry it on.
    """

    tasks: set[int]
    passes: list[Pass] = field(default_factory=list)
    is_running: bool = True


@dataclass(frozen=True)
class PassCounts:
    """What the passes of a step say about it; 0 where something is not known.

    ``noise_parts`` is the number of micro-batches where they were equally large and each backward
    call had a pass of its own. ``sources`` say how the batch size is known, or why it is not.
    """

    n_microbatches: int = 0
    batch_size: int = 0
    sources: tuple[str, ...] = ()
    noise_parts: int = 0


class Passes:
    """Keeps the passes and backward calls of the step in progress.

    Parameters
    ----------
    accumulation : Accumulation
    on_backward : callable
        Called when a counted backward call begins.
    on_discard : callable
        Called when the calls so far turn out to have been thrown away.
    guard : Guard
    """

    def __init__(
        self,
        accumulation: Accumulation,
        on_backward: Callable[[], None],
        on_discard: Callable[[], None],
        guard: Guard,
    ) -> None:
        self._guard = guard
        self._accumulation = accumulation
        self._on_backward = on_backward
        self._on_discard = on_discard
        self._recent: deque[Pass] = deque(maxlen=MAX_RECENT)
        self._calls: list[Call] = []
        self._ignored_task = -1
        self._n_passes = 0
        self.n_discarded = 0
        """Backward calls that were thrown away since the last step."""
        self.n_counted = 0
        """Backward calls that reached the parameters, since the recorder was attached."""

    @property
    def current(self) -> Pass | None:
        """The pass that began last, unless a gradient has already come back through it."""
        last = self.latest
        return None if last is None or (last.calls and not is_in_backward()) else last

    @property
    def latest(self) -> Pass | None:
        """The pass that began last, unless a step has consumed it."""
        return self._recent[-1] if self._recent else None

    @property
    def committed(self) -> list[Pass]:
        """Passes that a counted backward call went through, in order."""
        return list(dict.fromkeys(p for call in self._calls for p in call.passes))

    def start(self, n_layers: int | None, device: torch.device, root: Module | None = None) -> Pass:
        """Begin a pass, measured if a number of layers is given."""
        self._n_passes += 1
        started = Pass(self._n_passes, root)
        if n_layers is not None:
            started.measure(n_layers, device)
        self._recent.append(started)  # only now: other threads may run passes of the same model
        return started

    def find(self, number: int) -> Pass | None:
        """Return a recent pass by its number."""
        return next((p for p in self._recent if p.number == number), None)

    def commit(self, source: Pass, *, is_early: bool = True) -> Call | None:
        """Note that a gradient flows back through a pass; None where it counts for no step.

        ``is_early`` says that it flows through what the pass itself computed, rather than what was
        computed anew within the backward call.
        """
        task = torch._C._current_graph_task_id()
        call = self._calls[-1] if self._calls else None
        if call is None or not (task in call.tasks or self._joins(call, task, source, is_early)):
            if task == self._ignored_task:
                return None
            if not self._accumulation.reaches():
                self._ignored_task = task
                return None
            call = self._begin_call(task)
        assert call is not None
        if source not in call.passes:
            call.passes.append(source)
            source.calls.append(call)
        return call

    def _joins(self, call: Call, task: int, source: Pass, is_early: bool) -> bool:
        """Whether a call inside another carries it on, as checkpointing does.

        ``autograd.grad`` through the graph of the forward pass asks a question of its own, as the
        solver of an implicit layer does.
        """
        if task == self._ignored_task or not call.is_running or source not in call.passes:
            return False
        if is_early and is_question():
            self._ignored_task = task
            return False
        call.tasks.add(task)
        return True

    @property
    def n_calls(self) -> int:
        """Counted backward calls of the step in progress."""
        return len(self._calls)

    def rearrange(self, places: list[int]) -> None:
        """Let every pass follow a new order of the layers."""
        for source in dict.fromkeys([*self._recent, *self.committed]):
            source.rearrange(places)

    @property
    def is_counting(self) -> bool:
        """Whether the backward call in progress counts."""
        return bool(self._calls) and self._calls[-1].is_running

    def _begin_call(self, task: int) -> Call:
        self._on_backward()
        if self._accumulation.begin_call() and self._calls:
            self.n_discarded += len(self._calls)
            self.forget()
            self._on_discard()
        call = Call({task})
        self._calls.append(call)
        self.n_counted += 1

        def end() -> None:
            call.is_running = False
            self._accumulation.end_call()

        at_end_of_backward(self._guard.wrap(end))
        return call

    def take(self) -> PassCounts:
        """Hand over what the calls of a step say about it, and begin afresh."""
        counts = _counts(self._calls)
        self.forget()
        self._recent = deque((p for p in self._recent if not p.calls), maxlen=MAX_RECENT)
        self.n_discarded = 0
        self._accumulation.forget()
        return counts

    def forget(self) -> None:
        """Forget the calls so far, and leave no cycle for the garbage collector."""
        for call in self._calls:
            call.passes = []
        self._calls = []

    def release(self) -> None:
        """Let go of the models."""
        self.forget()
        self._recent.clear()
        self._accumulation.release()


def _counts(calls: list[Call]) -> PassCounts:
    batches = _batches(calls)
    examples = [_examples_of(batch) for batch in batches]
    if len({id(_first(batch).root) for batch in batches}) > 1:
        examples = [Examples(0, DIFFERENT_MODELS)]
    is_known = all(batch.n for batch in examples)
    is_noise = is_known and len(batches) == len(calls) and len(set(examples)) == 1
    said = {batch.source for batch in examples if bool(batch.n) == is_known} or {NO_PASS}
    return PassCounts(
        n_microbatches=len(calls),
        batch_size=sum(batch.n for batch in examples) if is_known else 0,
        sources=tuple(sorted(said)),
        noise_parts=len(calls) if is_noise else 0,
    )


def _batches(calls: list[Call]) -> list[list[Pass]]:
    """Return the passes of each batch: those of one backward call, or of calls that share one."""
    batch_of: dict[Pass, dict[Pass, None]] = {}
    for call in calls:
        joined: dict[Pass, None] = {}
        for source in call.passes:
            if source not in joined:
                joined |= batch_of.get(source, {source: None})
        batch_of |= dict.fromkeys(joined, joined)
    return [list(batch) for batch in {id(batch): batch for batch in batch_of.values()}.values()]


def _first(batch: list[Pass]) -> Pass:
    return min(batch, key=lambda p: p.number)


def _examples_of(batch: list[Pass]) -> Examples:
    """Return the examples of a batch: those of its first pass, unless another one contradicts."""
    if max(Counter(id(p.root) for p in batch).values()) > MAX_ALIKE:
        return Examples(0, MANY_CALLS)
    first = _first(batch).examples
    if {p.examples.n for p in batch} - {0, first.n} and first.n:
        return Examples(0, UNLIKE_CALLS)
    return first


def rearranged(rows: Tensor, places: list[int]) -> Tensor:
    """Return rows in another order; zero where a place is -1."""
    result = rows.new_zeros((len(places), *rows.shape[1:]))
    kept = [i for i, place in enumerate(places) if place >= 0]
    result[kept] = rows[[places[i] for i in kept]]
    return result
