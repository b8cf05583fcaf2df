"""Gradient clipping: the factor that torch's clipping functions applied.

Users import ``clip_grad_norm_`` by name before the recorder comes, so the functions themselves are
left in place; what they wrap is replaced while a recorder is attached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils import clip_grad

_BY_NORM = "_clip_grads_with_norm_"
_BY_VALUE = "clip_grad_value_"


class ClipWatch:
    """Sees each clipping of watched gradients and keeps the factor that it applied.

    One watch stands inside torch for all recorders; each gets the calls and takes its own.

    Parameters
    ----------
    watched : callable
        Returns the parameters whose gradients matter.
    """

    _listeners: ClassVar[list[ClipWatch]] = []
    _originals: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __init__(self, watched: Callable[[], Iterable[Tensor]]) -> None:
        self._watched = watched
        self._coefficient: Tensor | None = None
        self._is_unknown = False
        ClipWatch._listeners.append(self)
        if not ClipWatch._originals:
            _replace(_BY_NORM, _watched_clip_by_norm)
            _replace(_BY_VALUE, _watched_clip_by_value)

    def take(self) -> Tensor | float | None:
        """Hand over the factor of the step: None without clipping, NaN where it is not one number.

        Clipping by value, or of some of the parameters only, has no single factor.
        """
        coefficient, is_unknown = self._coefficient, self._is_unknown
        self._coefficient, self._is_unknown = None, False
        return float("nan") if is_unknown else coefficient

    def close(self) -> None:
        """Stop watching; the last one out puts torch's own functions back."""
        if self in ClipWatch._listeners:
            ClipWatch._listeners.remove(self)
        if not ClipWatch._listeners:
            for name in list(ClipWatch._originals):
                _replace(name, ClipWatch._originals[name])
            ClipWatch._originals.clear()

    def see(self, parameters: list[Tensor], factor: Callable[[], Tensor] | None) -> None:
        """Note one call, if it is about watched parameters; no factor where there is none."""
        clipped = {id(p) for p in parameters}
        watched = {id(p) for p in self._watched() if p.grad is not None}
        if not clipped & watched:
            return
        if factor is None or watched - clipped:
            self._is_unknown = True
            return
        value = factor()
        self._coefficient = value if self._coefficient is None else self._coefficient * value


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


def _tell(parameters: list[Tensor], factor: Callable[[], Tensor] | None) -> None:
    if not torch.compiler.is_compiling():
        for listener in ClipWatch._listeners:
            listener.see(parameters, factor)


def _as_list(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def _watched_clip_by_norm(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, *a: Any, **kw: Any
) -> None:
    items = _as_list(parameters)
    ClipWatch._originals[_BY_NORM](items, max_norm, total_norm, *a, **kw)

    def factor() -> Tensor:
        total = total_norm.full_tensor() if hasattr(total_norm, "full_tensor") else total_norm
        return torch.clamp(float(max_norm) / (total.detach() + 1e-6), max=1.0)

    _tell(items, factor)


def _watched_clip_by_value(parameters: Tensor | Iterable[Tensor], *a: Any, **kw: Any) -> None:
    items = _as_list(parameters)
    ClipWatch._originals[_BY_VALUE](items, *a, **kw)
    _tell(items, None)
