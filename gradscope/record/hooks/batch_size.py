"""The number of examples in a forward pass where it can be known, and how it is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gradscope.record.model.identity import WeakIdentityMap
from gradscope.record.model.modules import Args, first_tensor

LOGGED = "logged by the user"
FIRST_AXIS = "first axis of the model's inputs"
NO_PASS = "not known without a forward pass"
OTHER_KINDS = "not known from inputs that are not all tensors"
DIFFERENT = "not known from inputs and outputs whose first axes differ"
TIME_FIRST = "not known from inputs that put time first"
GRAPH = "not known from inputs that relate rows to each other, such as a graph"
ONE_AXIS = "not known from inputs with a single axis, which may be one example"
MANY_CALLS = "not known from many calls of the model before one backward call"
IN_A_GRAPH = "not known from the inputs of a compiled model"


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
    tensors: list[Tensor] = []
    for value in (*args, *kwargs.values()):
        for item in value.values() if isinstance(value, Mapping) else (value,):
            if isinstance(item, Tensor) and item.ndim:
                tensors.append(item)
            elif not _says_nothing(item):
                return Examples(0, OTHER_KINDS)
    if _is_graph(tensors):
        return Examples(0, GRAPH)
    lengths, outputs = (
        {_length(t) for t in some if t.ndim} for some in (tensors, _tensors(output))
    )
    if len(lengths) != 1 or not outputs or not lengths >= outputs or lengths == {0}:
        return Examples(0, DIFFERENT)
    if is_time_first(module):
        return Examples(0, TIME_FIRST)
    if all(t.ndim == 1 and t.is_floating_point() for t in tensors):
        return Examples(0, ONE_AXIS)
    return Examples(lengths.pop(), FIRST_AXIS)


def count_compiled(n_examples: int) -> Examples:
    """Return the examples of a compiled model's pass; 0 says that its inputs do not tell."""
    return Examples(n_examples, FIRST_AXIS if n_examples else IN_A_GRAPH)


def _length(tensor: Tensor) -> int:
    size = tensor.shape[0]
    return size if isinstance(size, int) else 0


def _is_graph(tensors: list[Tensor]) -> bool:
    """Whether one input is sparse, or a square of numbers beside the rows that it relates."""
    if any(t.layout is not torch.strided and t.layout is not torch.jagged for t in tensors):
        return True
    is_square = [t.ndim == 2 and len(set(t.shape)) == 1 and t.is_floating_point() for t in tensors]
    return any(is_square) and not all(is_square)


def _says_nothing(item: object) -> bool:
    """Whether an argument is a flag, a number or nothing, rather than data of another kind."""
    return item is None or isinstance(item, bool | int | float | str | torch.dtype | Tensor)


def _tensors(output: Any) -> Iterator[Tensor]:
    """Floating tensors of an output, one level deep."""
    if isinstance(output, Tensor):
        output = (output,)
    elif isinstance(output, Mapping):
        output = tuple(output.values())
    elif hasattr(output, "__dataclass_fields__"):
        output = tuple(vars(output).values())
    if isinstance(output, tuple | list):
        yield from (t for t in output if isinstance(t, Tensor) and first_tensor(t) is t)
