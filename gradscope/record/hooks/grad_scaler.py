"""Gradient scaling: the scale of the loss, and the steps that a scaler skips.

A step that a ``GradScaler`` skips calls no optimizer hook, so the scaler's ``step`` is watched too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class ScalerWatch:
    """Sees each ``scaler.step(optimizer)``, also where the scaler then skips the optimizer.

    Parameters
    ----------
    scaler : torch.amp.GradScaler or None
    before, after : callable
        Called with the optimizer around ``scaler.step``.
    """

    def __init__(
        self, scaler: Any, before: Callable[[Any], None], after: Callable[[Any], None]
    ) -> None:
        self._scaler = scaler
        if scaler is None:
            return
        original = scaler.step

        def step(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            before(optimizer)
            try:
                return original(optimizer, *args, **kwargs)
            finally:
                after(optimizer)

        scaler.step = step

    @property
    def scale(self) -> Tensor | float | None:
        """Present scale of the loss, () on the device; None without scaler or when disabled."""
        if self._scaler is None or not self._scaler.is_enabled():
            return None
        scale: Tensor | None = getattr(self._scaler, "_scale", None)
        return self._scaler.get_scale() if scale is None else scale

    def close(self) -> None:
        """Give the scaler its own ``step`` back."""
        if self._scaler is not None:
            self._scaler.__dict__.pop("step", None)
