"""Every hook and patch of a recorder, put in place together and removed together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradscope.record.guard import Guard
from gradscope.record.hooks.activations import Activations
from gradscope.record.hooks.grad_clip import ClipWatch
from gradscope.record.hooks.grad_scaler import ScalerWatch
from gradscope.record.model.layers import LayerTable
from gradscope.record.pipeline import Stages

if TYPE_CHECKING:
    from gradscope.record.events import StepEvents


class Attachment:
    """The hooks of one recorder, each behind its guard.

    Parameters
    ----------
    events : StepEvents
        Is told what happens.
    layers : LayerTable
    stages : Stages
    grad_scaler : torch.amp.GradScaler or None
    guard : Guard
    """

    def __init__(
        self,
        events: StepEvents,
        layers: LayerTable,
        stages: Stages,
        *,
        grad_scaler: Any,
        guard: Guard,
    ) -> None:
        self._handles: list[Any] = []
        self._undo: list[Any] = []
        try:
            self.activations = Activations(
                layers,
                stages.backend.add_output,
                events.on_forward,
                events.on_backward,
                events.on_discard,
                params=events.trained,
                guard=guard,
                device=stages.device,
                is_measuring="activations" in stages.settings.groups,
            )
            self._undo.append(self.activations.close)
            self.clip = ClipWatch(events.trained)
            self._undo.append(self.clip.close)
            self.clip.see = guard.wrap(self.clip.see)  # type: ignore[method-assign]
            self.scaler = ScalerWatch(
                grad_scaler, guard.wrap(events.before_scaler), guard.wrap(events.after_scaler)
            )
            self._undo.append(self.scaler.close)
            self._hook_optimizers(events, guard)
        except BaseException:
            self.close()
            raise

    def _hook_optimizers(self, events: StepEvents, guard: Guard) -> None:
        # Inside a compiled step: run as is.
        before = torch.compiler.disable(guard.wrap(events.before_step))
        after = torch.compiler.disable(guard.wrap(events.after_step))
        for optimizer in events.optimizers:
            self._handles.append(optimizer.register_step_pre_hook(before))
            self._handles.append(optimizer.register_step_post_hook(after))

    def close(self) -> None:
        """Remove them all; calling it again does nothing."""
        undo, self._undo = self._undo, []
        handles, self._handles = self._handles, []
        for function in undo:
            function()
        for handle in handles:
            handle.remove()
