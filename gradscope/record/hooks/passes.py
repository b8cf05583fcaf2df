"""Forward passes and the backward calls that go through them, for the step in progress."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
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
from gradscope.record.hooks.batch_size import UNSEEN, PassCounts, count_calls
from gradscope.record.measure.reference.sums import OUTPUT_SUMS
from gradscope.record.model.modules import any_requires_grad

MIN_PASSES, MAX_PASSES, MAX_ROWS = 16, 5_000, 50_000
"""Passes that wait for their gradient, and their rows of sums: tens of megabytes at most."""
MAX_STEPS = 16
"""Steps, of any optimizer, for which a pass waits for its gradient."""
MAX_WITHOUT_STEP = 100
"""Backward calls that are thrown away before the first step before a warning says so."""


class Pass:
    """One forward pass: the sums of its outputs if it is measured.

    Parameters
    ----------
    number : int
    root : Module or None
        What was called from outside, if it is known.
    follows : bool
        Whether it goes on where another one was: a part of a model, called by itself.
    """

    sums: Tensor
    rows: tuple[Tensor, ...]

    def __init__(self, number: int, root: Module | None = None, *, follows: bool = False) -> None:
        self.number = number
        self.n_orders = 0
        """Orders of the layers up to the one that its rows have."""
        self.root = root
        self.follows = follows
        self.n_steps = 0
        """Steps that were taken since it began."""
        self.has_grad = False
        """Whether a gradient may come back through one of its outputs."""
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

    def ends_at(self, module: Module, inputs: object = (), output: Tensor | None = None) -> bool:
        """Whether a layer that is called outside a model's own call begins another pass.

        It does after a step. Otherwise, it does with inputs that no gradient flows back through,
        where it has run before or stands beside layers that train; frozen layers may follow each
        other.
        """
        if is_in_backward() or self.n_steps:
            return not is_in_backward()
        is_repeated = id(module) in self.seen
        is_beside = self.has_grad and output is not None and output.requires_grad
        return (is_repeated or is_beside) and not any_requires_grad(inputs)

    def rearrange(self, orders: Sequence[list[int]]) -> None:
        """Give each layer the row that it has now; see `Passes.rearrange`."""
        for places in orders[self.n_orders :] if self.is_measured else ():
            self.sums = rearranged(self.sums, places)
            self.rows = self.sums.unbind()
        self.n_orders = len(orders)


@dataclass(eq=False)
class Call:
    """One backward call that reaches the parameters, and the passes that it goes through.

    ``tasks`` are autograd's numbers of the call and of those inside it that carry it on.
    """

    tasks: set[int]
    passes: dict[Pass, None] = field(default_factory=dict)
    is_running: bool = True


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
        self._recent: dict[int, Pass] = {}
        self.latest: Pass | None = None
        """The pass that began last, unless a step has consumed it."""
        self._last_dropped = 0
        self._calls: list[Call] = []
        self._ignored_task = -1
        self._numbers = itertools.count(1)
        self._orders: list[list[int]] = []
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
    def committed(self) -> list[Pass]:
        """Passes that a counted backward call went through, in order."""
        return list(dict.fromkeys(p for call in self._calls for p in call.passes))

    def start(
        self,
        n_layers: int | None,
        device: torch.device,
        root: Module | None = None,
        *,
        follows: bool = False,
    ) -> Pass:
        """Begin a pass, measured if a number of layers is given."""
        started = Pass(next(self._numbers), root, follows=follows)
        started.n_orders = len(self._orders)
        if n_layers is not None:
            started.measure(n_layers, device)
        # Only now: other threads may run passes of the same model.
        self._recent[started.number] = self.latest = started
        n_kept = min(MAX_PASSES, MAX_ROWS // max(n_layers or 0, 1))
        if len(self._recent) > max(n_kept, MIN_PASSES):
            for number in list(self._recent)[: len(self._recent) // 2]:
                self._drop(number)
        return started

    def _drop(self, number: int) -> None:
        self._last_dropped = max(number, self._last_dropped)
        self._recent.pop(number, None)

    def find(self, number: int) -> Pass | None:
        """Return a pass by its number, unless it was too long ago or a step has consumed it."""
        return self._recent.get(number)

    def is_dropped(self, number: int) -> bool:
        """Whether a pass was too long ago to be known."""
        return number <= self._last_dropped

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
            call.passes[source] = None
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
        """Note a new order of the layers: where the rows stood, or -1. Passes follow when used."""
        self._orders.append(places)

    def arranged(self, source: Pass) -> Pass:
        """Return a pass, its rows of sums in the order that the layers have now."""
        source.rearrange(self._orders)
        return source

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
        counts = count_calls(self._calls)
        self.forget()
        self.latest = None
        for source in list(self._recent.values()):  # other threads may begin some
            source.n_steps += 1
            if source.calls:
                self._recent.pop(source.number, None)
            elif source.n_steps > MAX_STEPS:
                self._drop(source.number)
            else:
                self.latest = source
        self.n_discarded = 0
        self._accumulation.forget()
        return counts

    def forget(self) -> None:
        """Forget the calls so far, and leave no cycle for the garbage collector."""
        for call in self._calls:
            call.passes = {}
        self._calls = []

    def release(self) -> None:
        """Let go of the models."""
        self.forget()
        self._recent.clear()
        self.latest = None
        self._accumulation.release()


def rearranged(rows: Tensor, places: list[int]) -> Tensor:
    """Return rows in another order; zero where a place is -1."""
    result = rows.new_zeros((len(places), *rows.shape[1:]))
    kept = [i for i, place in enumerate(places) if place >= 0]
    result[kept] = rows[[places[i] for i in kept]]
    return result
