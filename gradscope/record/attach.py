"""Every hook and patch of a recorder, put in place together and removed together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.hooks import RemovableHandle

from gradscope.record.guard import Guard
from gradscope.record.hooks import step_calls
from gradscope.record.hooks.activations import Activations
from gradscope.record.hooks.grad_clip import ClipWatch
from gradscope.record.hooks.grad_scaler import ScalerWatch
from gradscope.record.hooks.other_steps import OtherSteps
from gradscope.record.hooks.step_calls import StepCalls
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
    """

    def __init__(
        self, events: StepEvents, layers: LayerTable, stages: Stages, *, grad_scaler: Any
    ) -> None:
        guard = stages.guard
        self._handles: list[RemovableHandle] = []
        self._before: list[tuple[torch.optim.Optimizer, RemovableHandle]] = []
        self._undo = ExitStack()
        self._n_running = 0
        self._is_closed = False
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
            self._undo.callback(self.activations.close)
            self.clip = ClipWatch(events.trained)
            self._undo.callback(self.clip.close)
            self.clip.see = guard.wrap(self.clip.see)  # type: ignore[method-assign]
            self.clip.expect = guard.wrap(self.clip.expect)  # type: ignore[method-assign]
            self.scaler = ScalerWatch(
                grad_scaler, guard.wrap(events.before_scaler), guard.wrap(events.after_scaler)
            )
            self._undo.callback(self.scaler.close)
            self._hook_optimizers(events, guard)
            others = OtherSteps(events.optimizers.values(), events.trained, events.on_other_step)
            others.see = guard.wrap(others.see)  # type: ignore[method-assign]
            self._undo.callback(others.close)
            others.start()
        except BaseException:
            self.close()
            self.release()
            raise

    def _hook_optimizers(self, events: StepEvents, guard: Guard) -> None:
        calls = StepCalls(events.before_step, events.after_step)
        before = self._step_hook(guard.wrap(calls.before))
        after = self._step_hook(guard.wrap(calls.after))
        for optimizer in events.optimizers.values():
            handle = optimizer.register_step_pre_hook(before)
            self._handles.append(handle)
            self._before.append((optimizer, handle))
            self._handles.append(optimizer.register_step_post_hook(after))

    def come_last(self, n_running: int = 0) -> None:
        """Let the hooks before a step follow those of a user, who may change gradients in his.

        The hooks of a step cannot be moved while torch walks through them, so this is left out
        where more calls of ``step`` are running than ``n_running``.
        """
        OtherSteps.settle()
        for optimizer, handle in self._before:
            hooks = handle.hooks_dict_ref()
            if not hooks or handle.id not in hooks or next(reversed(hooks)) == handle.id:
                continue
            if step_calls.n_running(optimizer) <= n_running:
                hooks.move_to_end(handle.id)

    def _step_hook(self, function: Callable[..., None]) -> Callable[..., None]:
        """Note while a hook runs; inside a compiled step it runs as it is."""

        def hook(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._is_closed:
                return
            self._n_running += 1
            try:
                function(optimizer, args, kwargs)
            finally:
                self._n_running -= 1

        eager: Callable[..., None] = torch.compiler.disable(hook)
        return eager

    def close(self) -> None:
        """Remove them all; calling it again does nothing.

        Within a step torch walks through its hooks: those that cannot be taken from it then stay
        until the next call, and do nothing.
        """
        self._is_closed = True
        try:
            self._undo.close()
        finally:
            self._handles = [handle for handle in self._handles if not self._remove(handle)]

    def release(self) -> None:
        """Let go of models and optimizers."""
        self._before = []
        if "activations" in vars(self):  # else attaching has failed
            self.activations.release()
        if "scaler" in vars(self):
            self.scaler.release()

    def _remove(self, handle: RemovableHandle) -> bool:
        hooks = handle.hooks_dict_ref()
        if hooks and handle.id in hooks and step_calls.is_stepping():
            is_at_end = self._n_running > 0 and next(reversed(hooks)) == handle.id
            if not is_at_end:
                return False
        handle.remove()
        return True
