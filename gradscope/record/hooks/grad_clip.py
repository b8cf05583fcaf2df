"""Gradient clipping: the factor that torch's clipping functions applied.

Users import ``clip_grad_norm_`` by name before the recorder comes, so the functions themselves are
left in place; what they wrap is replaced while a recorder is attached.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils import clip_grad

_BY_NORM = "_clip_grads_with_norm_"
_BY_VALUE = "clip_grad_value_"


_State = tuple[int, int]
MAX_CALLS = 10_000
"""Calls that are remembered; a step takes those about its own parameters."""


@dataclass(eq=False)
class _Call:
    """One call of a clipping function: what it was about, and the factor where there is one."""

    params: frozenset[int]
    factor: Callable[[], Tensor] | None
    left: dict[int, int]
    """Parameters that have steps to come, and how many each has taken since."""
    has_grown: bool = False
    """Whether a later backward call has added to what was clipped."""


@dataclass(frozen=True)
class Clipping:
    """What clipping did to the gradients of one step.

    ``coefficient`` is NaN where no one factor applies to all of them: clipping by value, by group
    or by parameter, gradients changed by hand since. ``calls`` tells whether two steps share it.
    """

    coefficient: Tensor | float | None = None
    calls: tuple[int, ...] = ()


class ClipWatch:
    """Sees each clipping of gradients and keeps the factor that it applied.

    One watch stands inside torch for all recorders; each gets the calls and takes its own.

    Parameters
    ----------
    params : callable
        Returns the parameters that may train now; what is clipped of others is not remembered.
    """

    _listeners: ClassVar[list[ClipWatch]] = []
    _originals: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __init__(self, params: Callable[[], Iterable[Tensor]]) -> None:
        self._params = params
        self._calls: list[_Call] = []
        self._states: dict[int, _State] = {}
        """Each gradient as clipping left it, by the id of its parameter."""
        self._changed: set[int] = set()
        """Ids of those that a user has changed or replaced since."""
        ClipWatch._listeners.append(self)
        try:
            if not ClipWatch._originals:
                _replace(_BY_NORM, _watched_clip_by_norm)
                _replace(_BY_VALUE, _watched_clip_by_value)
        except BaseException:
            self.close()
            raise

    def take(
        self, params: Iterable[Tensor], owners: Mapping[int, Collection[int]] | None = None
    ) -> Clipping:
        """Hand over what was done to the gradients of some parameters, which step now.

        Those of which ``owners`` names several optimizers, by their id, step once for each.
        """
        stepping = [p for p in params if p.grad is not None] if self._calls else []
        own = {id(p) for p in stepping}
        seen = [call for call in self._calls if own & call.left.keys()]
        self.expect(stepping)
        is_by_hand = bool(own & self._changed)
        for call in seen:
            for key in own & call.left.keys():
                call.left[key] += 1
                if call.left[key] >= len((owners or {}).get(key, (0,))):
                    del call.left[key]
                    self._states.pop(key, None)
                    self._changed.discard(key)
        self._calls = [call for call in self._calls if call.left]
        if not seen:
            return Clipping()
        keys = tuple(map(id, seen))
        coefficient: Tensor | float | None = None
        for call in seen:
            if call.factor is None or own - call.params or is_by_hand:
                return Clipping(float("nan"), keys)
            value = call.factor()
            if call.has_grown:  # only a factor of 1 holds for the sum
                value = value.masked_fill(value != 1, torch.nan)
            coefficient = value if coefficient is None else coefficient * value
        return Clipping(coefficient, keys)

    def begin_backward(self, params: Iterable[Tensor]) -> None:
        """Look at calls that no step has taken, before a backward call adds to some gradients.

        What was clipped and zeroed since is not clipped. What was clipped and grows has no factor,
        unless that was 1.
        """
        if not self._calls:
            return
        for param in params:
            clipped = [call for call in self._calls if id(param) in call.left]
            is_zero = bool(clipped) and _is_zero(param.grad)
            self._states.pop(id(param), None)
            if is_zero:
                self._changed.discard(id(param))
            for call in clipped:
                if is_zero:
                    del call.left[id(param)]
                else:
                    call.has_grown = True
        self._calls = [call for call in self._calls if call.left]

    def forget(self) -> None:
        """Forget the calls so far: the gradients were zeroed."""
        self._calls = []
        self._states.clear()
        self._changed.clear()

    def close(self) -> None:
        """Stop watching; the last one out puts torch's own functions back."""
        self.forget()
        if self in ClipWatch._listeners:
            ClipWatch._listeners.remove(self)
        if not ClipWatch._listeners:
            for name in list(ClipWatch._originals):
                _replace(name, ClipWatch._originals[name])
            ClipWatch._originals.clear()

    def expect(self, parameters: Iterable[Tensor]) -> None:
        """See which gradients, about to be clipped or consumed, are not as clipping left them."""
        for param in parameters if self._states else ():
            if self._states.get(id(param), state := _state_of(param)) != state:
                self._changed.add(id(param))

    def see(self, parameters: list[Tensor], factor: Callable[[], Tensor] | None) -> None:
        """Note one call; no factor where there is none."""
        own = {id(p) for p in self._params()}
        states = {id(p): _state_of(p) for p in parameters if p.grad is not None and id(p) in own}
        if not states:
            return
        self._states |= states
        new = _Call(frozenset(states), factor, dict.fromkeys(states, 0))
        self._calls = [*self._calls[-MAX_CALLS:], new]


def _state_of(param: Tensor) -> _State:
    """Tell a gradient from another, and from itself changed in place."""
    grad = param.grad
    return id(grad), 0 if grad is None or grad.is_inference() else grad._version


def _is_zero(grad: Tensor | None) -> bool:
    """Whether a gradient is known to be zero; an accelerator is not asked."""
    return grad is None or (grad.device.type == "cpu" and not bool(grad.any()))


def _replace(name: str, function: Callable[..., Any]) -> None:
    """Put a function in the place of the one that torch's public function calls."""
    outer = getattr(clip_grad, name, None)
    if outer is None:
        return
    cells = getattr(outer, "__closure__", None)
    if cells and callable(cells[0].cell_contents):  # the function under torch's no_grad wrapper
        ClipWatch._originals.setdefault(name, cells[0].cell_contents)
        cells[0].cell_contents = function
    else:
        ClipWatch._originals.setdefault(name, outer)
        setattr(clip_grad, name, function)


def _listening() -> list[ClipWatch]:
    return [] if torch.compiler.is_compiling() else ClipWatch._listeners


def _as_list(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def _watched_clip_by_norm(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, *a: Any, **kw: Any
) -> None:
    items = _as_list(parameters)
    for listener in _listening():
        listener.expect(items)
    ClipWatch._originals[_BY_NORM](items, max_norm, total_norm, *a, **kw)
    kept = total_norm.detach().clone()  # its user gets the tensor itself, and may change it

    def factor() -> Tensor:
        total = kept.full_tensor() if hasattr(kept, "full_tensor") else kept
        return torch.clamp(float(max_norm) / (total + 1e-6), max=1.0)

    for listener in _listening():
        listener.see(items, factor)


def _watched_clip_by_value(parameters: Tensor | Iterable[Tensor], *a: Any, **kw: Any) -> None:
    items = _as_list(parameters)
    for listener in _listening():
        listener.expect(items)
    ClipWatch._originals[_BY_VALUE](items, *a, **kw)
    for listener in _listening():
        listener.see(items, None)
