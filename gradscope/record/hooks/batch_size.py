"""The number of examples in a forward pass where it can be known, and how it is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from gradscope.record.model.identity import WeakIdentityMap
from gradscope.record.model.modules import Args, first_tensor, members

if TYPE_CHECKING:
    from gradscope.record.hooks.passes import Call, Pass

LOGGED = "logged by the user"
FIRST_AXIS = "first axis of the model's inputs"
NO_PASS = "not known without a forward pass"
OTHER_KINDS = "not known from inputs that are not all tensors"
DIFFERENT = "not known from inputs and outputs whose first axes differ"
TIME_FIRST = "not known from inputs that put time first"
GRAPH = "not known from inputs that relate rows to each other, such as a graph"
ONE_AXIS = "not known from inputs with a single axis, which may be one example"
MANY_CALLS = "not known from many calls of the model before one backward call"
UNLIKE_CALLS = "not known from calls with different numbers of examples before one backward call"
DIFFERENT_MODELS = "not known from backward calls through different models"


MAX_ALIKE = 3
"""Passes of one model before a backward call that may be views of one batch; more may be steps of
time, or of an episode."""


class Examples(NamedTuple):
    """Number of examples of a pass, 0 where it is missing, and how it is known or why it is not."""

    n: int
    source: str


UNSEEN = Examples(0, NO_PASS)


def puts_time_first(module: nn.Module) -> bool:
    """Whether a module holds a recurrent or attention layer whose first axis is time."""
    return any(getattr(part, "batch_first", True) is False for part in module.modules())


class TimeFirst:
    """`puts_time_first` of each module, found once."""

    def __init__(self) -> None:
        self._known: WeakIdentityMap[bool] = WeakIdentityMap()

    def __call__(self, module: nn.Module) -> bool:
        """Say it of a module."""
        if module not in self._known:  # a walk over all modules
            self._known[module] = puts_time_first(module)
        return bool(self._known.get(module))


def count_examples(
    module: nn.Module,
    args: Args,
    kwargs: Mapping[str, Any],
    output: Any,
    is_time_first: Callable[[nn.Module], bool] = puts_time_first,
) -> Examples:
    """Count the examples of a call of a module, where they can be known.

    The first axis counts examples if all tensors that go in agree on its length and those that come
    out do too. Lists, graphs and objects of other kinds say nothing; neither do numbers along a
    single axis, nor modules that put time first.
    """
    found = count_rows(args, kwargs, output)
    return Examples(0, TIME_FIRST) if found.n and is_time_first(module) else found


def count_rows(args: Args, kwargs: Mapping[str, Any], output: Any) -> Examples:
    """Count the examples of a call, wherever its module puts time.

    A compiler may trace this: it breaks no graph and adds no guard.
    """
    tensors: list[Tensor] = []
    for value in (*args, *kwargs.values()):
        for item in value.values() if isinstance(value, Mapping) else (value,):
            if isinstance(item, Tensor):
                tensors += [item] if item.ndim else []
            elif not _says_nothing(item):
                return Examples(0, OTHER_KINDS)
    if _is_graph(tensors):
        return Examples(0, GRAPH)
    outputs = [t for t in _tensors(output) if t.ndim]
    if not tensors or not outputs or not _agree([*tensors, *outputs]):
        return Examples(0, DIFFERENT)
    if all(t.ndim == 1 and t.is_floating_point() for t in tensors):
        return Examples(0, ONE_AXIS)
    n = tensors[0].size(0)
    return Examples(n, FIRST_AXIS) if torch.compiler.is_compiling() else counted(n, FIRST_AXIS)


def counted(n: int, source: str) -> Examples:
    """Return a number of examples with its source; empty tensors tell of none."""
    return Examples(n, source) if n or source != FIRST_AXIS else Examples(0, DIFFERENT)


def _agree(tensors: list[Tensor]) -> bool:
    """Whether the first axes of some tensors have one length."""
    return all(_is_equal(t.size(0), tensors[0].size(0)) for t in tensors[1:])


def _is_equal(first: int, second: int) -> bool:
    """Whether two lengths are equal; two that a compiler leaves open are not."""
    is_equal = first == second
    return statically_known_true(is_equal) if torch.compiler.is_compiling() else is_equal


def _is_graph(tensors: list[Tensor]) -> bool:
    """Whether one input is sparse, or a square of numbers beside the rows that it relates."""
    if any(t.layout is not torch.strided and t.layout is not torch.jagged for t in tensors):
        return True
    is_square = [
        t.ndim == 2 and t.is_floating_point() and _is_equal(t.size(0), t.size(1)) for t in tensors
    ]
    return any(is_square) and not all(is_square)


def _says_nothing(item: object) -> bool:
    """Whether an argument is a flag, a number or nothing, rather than data of another kind."""
    return item is None or isinstance(item, (bool, int, float, str, torch.dtype))


def _tensors(output: Any) -> list[Tensor]:
    """Floating tensors of an output, one level deep."""
    items = (output,) if isinstance(output, Tensor) else members(output)
    return [t for t in items if isinstance(t, Tensor) and first_tensor(t) is t]


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


def count_calls(calls: list[Call]) -> PassCounts:
    """Return what the backward calls of a step, and the passes they go through, say about it."""
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
    first = _first(batch)
    alike = [p for p in batch if not p.follows or p.root is first.root]
    if max(Counter(id(p.root) for p in alike).values()) > MAX_ALIKE:
        return Examples(0, MANY_CALLS)
    if {p.examples.n for p in alike} - {0, first.examples.n} and first.examples.n:
        return Examples(0, UNLIKE_CALLS)
    return first.examples
