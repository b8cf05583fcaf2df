"""What happens around the optimizer's step: gradient scaling, skipped steps, clipping.

A step that a ``GradScaler`` skips calls no optimizer hook, so the scaler's ``step`` is watched too;
``clip_grad_norm_`` is watched inside torch, since users import it by name before we come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils import clip_grad

_CLIP = "_clip_grads_with_norm_"


class ClipWatch:
    """Sees each call of torch's ``clip_grad_norm_`` and keeps the factor that it applied.

    One watch stands inside torch for all recorders; each gets the calls and takes its own.
    """

    _listeners: ClassVar[list[ClipWatch]] = []
    _original: ClassVar[Callable[..., Any] | None] = None

    def __init__(self, is_ours: Callable[[Tensor], bool]) -> None:
        self._is_ours = is_ours
        self._coefficient: Tensor | None = None
        ClipWatch._listeners.append(self)
        if ClipWatch._original is None and hasattr(clip_grad, _CLIP):
            ClipWatch._original = getattr(clip_grad, _CLIP)
            setattr(clip_grad, _CLIP, _watched_clip)

    def take(self) -> Tensor | None:
        """Hand over the factor of the step, () or None where nothing was clipped."""
        taken, self._coefficient = self._coefficient, None
        return taken

    def close(self) -> None:
        """Stop watching; the last one out puts torch's own function back."""
        if self in ClipWatch._listeners:
            ClipWatch._listeners.remove(self)
        if not ClipWatch._listeners and ClipWatch._original is not None:
            setattr(clip_grad, _CLIP, ClipWatch._original)
            ClipWatch._original = None

    def see(self, parameters: list[Tensor], max_norm: float, total_norm: Tensor) -> None:
        """Note one call, if it is about our parameters."""
        if not any(self._is_ours(p) for p in parameters):
            return
        total = total_norm.full_tensor() if hasattr(total_norm, "full_tensor") else total_norm
        factor = torch.clamp(max_norm / (total.detach() + 1e-6), max=1.0)
        self._coefficient = factor if self._coefficient is None else self._coefficient * factor


def _watched_clip(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    total_norm: Tensor,
    *args: Any,
    **kw: Any,
) -> None:
    items = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    assert ClipWatch._original is not None
    ClipWatch._original(items, max_norm, total_norm, *args, **kw)
    if not torch.compiler.is_compiling():
        for listener in ClipWatch._listeners:
            listener.see(items, float(max_norm), total_norm)


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
        scale = getattr(self._scaler, "_scale", None)
        return self._scaler.get_scale() if scale is None else scale

    def close(self) -> None:
        """Give the scaler its own ``step`` back."""
        if self._scaler is not None:
            self._scaler.__dict__.pop("step", None)
