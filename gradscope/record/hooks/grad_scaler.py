"""Gradient scaling: the scale of the loss, and the steps that a scaler skips.

A step that a ``GradScaler`` skips calls no optimizer hook, so the scaler's ``step`` is watched too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor


class ScalerWatch:
    """Sees each ``scaler.step(optimizer)``, also where the scaler then skips the optimizer.

    The class's ``step`` is watched, not the scaler's: a scaler can be pickled and copied meanwhile.

    Parameters
    ----------
    scaler : torch.amp.GradScaler or None
    before, after : callable
        Called with the optimizer around ``scaler.step``.

    Raises
    ------
    TypeError
        If it is no scaler.
    """

    _watches: ClassVar[list[ScalerWatch]] = []

    def __init__(
        self, scaler: Any, before: Callable[[Any], None], after: Callable[[Any], None]
    ) -> None:
        self._scaler = scaler
        self._before, self._after = before, after
        if scaler is None:
            return
        if not callable(getattr(scaler, "step", None)):
            raise TypeError(f"`grad_scaler` must be a GradScaler; got {scaler!r}")
        if not self._siblings():
            _watch(type(scaler))
        ScalerWatch._watches.append(self)

    def _siblings(self) -> list[ScalerWatch]:
        """Watches of scalers of the same class."""
        own = type(self._scaler)
        return [watch for watch in ScalerWatch._watches if type(watch._scaler) is own]

    @property
    def scale(self) -> Tensor | float | None:
        """Present scale of the loss, () on the device; None without scaler or when disabled."""
        if self._scaler is None or not self._scaler.is_enabled():
            return None
        scale: Tensor | None = getattr(self._scaler, "_scale", None)
        return self._scaler.get_scale() if scale is None else scale

    def close(self) -> None:
        """Watch no more; the last one out gives the class its own ``step`` back."""
        if self in ScalerWatch._watches:
            ScalerWatch._watches.remove(self)
            if not self._siblings():
                _unwatch(type(self._scaler))

    def release(self) -> None:
        """Let go of the scaler."""
        self._scaler = None


def _watch(scalers: type[Any]) -> None:
    original = scalers.step

    @functools.wraps(original)
    def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        watches = [watch for watch in ScalerWatch._watches if watch._scaler is scaler]
        for watch in watches:
            watch._before(optimizer)
        try:
            return original(scaler, optimizer, *args, **kwargs)
        finally:
            for watch in watches:
                watch._after(optimizer)

    step._replaced = vars(scalers).get("step")  # type: ignore[attr-defined]
    scalers.step = step


def _unwatch(scalers: type[Any]) -> None:
    """Put back what stood in the class; where it inherited its ``step``, it does so again."""
    replaced = scalers.step._replaced
    if replaced is None:
        del scalers.step
    else:
        scalers.step = replaced
