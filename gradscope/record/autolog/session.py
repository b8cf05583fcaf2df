"""Finds the trainings of a running program and attaches a recorder to each.

Optimizers are seen when they are made, models when they are first called with gradients: then,
right before that call, the recorder is attached, so that the first step is whole. Where a compiler
is about to trace a frame, it is attached before that.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.optim import Optimizer

from gradscope.errors import RecordingExistsError
from gradscope.record.autolog.backward_loss import LossWatch
from gradscope.record.autolog.discover import (
    find_models,
    named,
    owns_any,
    trained_parameters,
    variable_names,
    wraps_known,
)
from gradscope.record.autolog.inner_loops import TOLD, InnerLoops
from gradscope.record.autolog.options import Recorded, ScriptOptions, why_nothing
from gradscope.record.autolog.torch_watch import TorchWatch
from gradscope.record.health.watch import StopOn, Stopped
from gradscope.record.live import is_attached
from gradscope.record.model.identity import WeakIdentityMap, is_among
from gradscope.record.model.optimizers.unwrap import unwrap_optimizer
from gradscope.record.model.wrappers import unwrap_module
from gradscope.record.recorder import Recorder

IDLE_STEPS = 100
"""A training that takes no step while others take this many is over; its recording is closed."""

_LARGEST_SEED = 2**32
"""Seeds that people give are below; torch chooses from 64 bits when nobody gives one."""


class Session:
    """Watches this process for trainings; children that it forks are left alone.

    Parameters
    ----------
    options : ScriptOptions
    """

    def __init__(self, options: ScriptOptions) -> None:
        self.problems: list[str] = []
        self.recorded: list[Recorded] = []
        self._options = options
        self._alarm = StopOn(options.stop_on) if options.stop_on else None
        self._n_optimizers = self._n_attached = 0
        self._records_itself = False
        self._waiting: list[weakref.ref[Optimizer]] = []
        self._seen: WeakIdentityMap[None] = WeakIdentityMap()
        self._copies: WeakIdentityMap[None] = WeakIdentityMap()
        self._scalers: list[weakref.ref[Any]] = []
        self._strangers: WeakIdentityMap[None] = WeakIdentityMap()
        self._over: WeakIdentityMap[None] = WeakIdentityMap()
        self._replaced: WeakIdentityMap[None] = WeakIdentityMap()
        self._inner = InnerLoops()
        self._recorders: dict[Recorder, list[Optimizer]] = {}
        self._idle: dict[Recorder, int] = {}
        self._names: dict[Recorder, tuple[str, str]] = {}
        self._losses = LossWatch(self._watched, self._recorder_of)
        self._torch = TorchWatch(self, self.problems.append)

    def start(self) -> None:
        """Put the hooks into torch."""
        self._torch.start()

    def stop(self, status: str | None = None) -> None:
        """Take the hooks out and close what is open."""
        self._uninstall()
        for recorder in list(self._recorders):
            self._close(recorder, status)

    def _uninstall(self) -> None:
        self._torch.stop()
        self._losses.stop()

    def leave_child(self) -> None:
        """Record nothing in a process that was forked, such as a data loader's worker."""
        self._uninstall()
        for recorder in self._recorders:
            recorder.pause()
        self._recorders.clear()

    # -- what torch tells (`torch_watch.Listener`) ----------------------------------------------

    def see_optimizer(self, optimizer: Optimizer) -> None:
        """Wait for its model to be called, or for its first step."""
        if self._count(optimizer):
            self._waiting.append(weakref.ref(optimizer))
            self._strangers.clear()

    def see_copy(self, optimizer: Optimizer) -> None:
        """Wait for its first step: most copies are kept, not trained with."""
        if optimizer not in self._seen and self._count(optimizer):
            self._copies[optimizer] = None

    def _count(self, optimizer: Optimizer) -> bool:
        """Count a new optimizer; return whether it may be recorded."""
        if not self._n_optimizers:
            self._losses.start()
        self._n_optimizers += 1
        self._seen[optimizer] = None
        if self._inner.outer is not None:
            self._end([optimizer])
        return self._inner.outer is None

    def see_scaler(self, scaler: Any) -> None:
        """Remember a gradient scaler; the last one that lives is that of the next training."""
        self._scalers.append(weakref.ref(scaler))

    def see_call(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Attach a recorder to what is called with gradients for the first time."""
        if self._waiting and torch.is_grad_enabled() and module not in self._strangers:
            self._consider(module, args)

    def _consider(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Attach a recorder if this first call from outside is of something that is trained."""
        if torch.jit._trace.is_tracing():
            return
        if not owns_any(module, trained_parameters(self._fresh())):
            self._strangers[module] = None
            return
        hooks = torch_module._global_forward_pre_hooks
        known = set(hooks)
        self._attach(module)
        for hook in [hook for key, hook in hooks.items() if key not in known]:
            hook(module, args)  # the recorder's own came too late for this call

    def see_compiler(self) -> None:
        """Attach a recorder before the first graph of a training is traced, so that it has taps."""
        if self._waiting and torch.is_grad_enabled() and self._fresh():
            self._attach(None)

    def before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Attach a recorder to an optimizer that steps before any call of its model was seen."""
        recorder = self._recorder_of(optimizer)
        if recorder is None and is_attached(optimizer):
            self._records_itself = True
        elif recorder is None and optimizer in self._replaced:
            self._over.pop(optimizer)
            self._waiting.append(weakref.ref(optimizer))
            self._tell_of_inner(self._attach(None, optimizer))
        elif recorder is None and optimizer not in self._over:
            self._copies.pop(optimizer)
            self._waiting.append(weakref.ref(optimizer))
            self._attach(None, optimizer)

    def after_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Close the recordings of trainings that take no steps any more."""
        active = self._recorder_of(optimizer)
        if self._inner.see_step(active):
            self._tell_of_inner(active)
        for recorder in list(self._recorders) if len(self._recorders) > 1 else ():
            self._idle[recorder] = 0 if recorder is active else self._idle[recorder] + 1
            if self._idle[recorder] >= IDLE_STEPS:
                self._close(recorder)
        if self.why_stopped:
            raise Stopped

    # -- attaching ----------------------------------------------------------------------------

    def _recorder_of(self, optimizer: Optimizer) -> Recorder | None:
        return next((r for r, own in self._recorders.items() if is_among(optimizer, own)), None)

    def _watched(self) -> list[Optimizer]:
        """Optimizers that are recorded, or may be."""
        known = [*(o for own in self._recorders.values() for o in own), *self._fresh()]
        return [*known, *(o for o, _ in self._copies.items())]

    def _fresh(self) -> list[Optimizer]:
        """Optimizers that live, train something and are not recorded, by us or by the program."""
        alive = {id(o): o for ref in self._waiting if (o := ref()) is not None}
        found = [
            o
            for o in alive.values()
            if not is_attached(o) and o not in self._over and o.param_groups
        ]
        wrappers = [o for o in found if wraps_known(o, alive)]
        self._end(wrappers)
        return [o for o in found if not is_among(o, wrappers)]

    def _end(self, optimizers: Sequence[Optimizer]) -> None:
        """Record no step of these any more."""
        for optimizer in optimizers:
            self._over[optimizer] = None

    def _attach(
        self, called: nn.Module | None, stepped: Optimizer | None = None
    ) -> Recorder | None:
        if len(self._waiting) > 1:
            gc.collect()  # an optimizer that was replaced may live on in a cycle
        optimizers = self._fresh()
        self._waiting.clear()
        if stepped is not None:
            inner = unwrap_optimizer(stepped)
            if not any(is_among(o, inner) for o in optimizers):
                return None
        try:
            recorder = self._open(optimizers, find_models(optimizers, called))
        except Exception as error:  # never the end of somebody's training
            self.problems.append(f"{type(error).__name__}: {error}")
            self._end(optimizers)
            return None
        self._close_rivals(recorder)
        return recorder

    def _open(self, optimizers: Sequence[Optimizer], models: Sequence[nn.Module]) -> Recorder:
        held = variable_names([*optimizers, *models])
        recorder = self._recorder(named(models, held), named(optimizers, held))
        names = (
            " and ".join(type(unwrap_module(m)).__name__ for m in models) or "tensors",
            " and ".join(type(o).__name__ for o in optimizers),
        )
        recorder.describe(model_name=names[0].replace(" and ", "-"))
        if (seed := torch.initial_seed()) < _LARGEST_SEED:
            recorder.describe(seed=seed)
        self._recorders[recorder] = list(optimizers)
        self._idle[recorder], self._names[recorder] = 0, names
        self._inner.see_begin(recorder)
        return recorder

    def _recorder(
        self, models: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
    ) -> Recorder:
        """Attach a recorder under the next name that is free."""
        scalers = [s for ref in self._scalers if (s := ref()) is not None and s.is_enabled()]
        while True:
            self._n_attached += 1
            try:
                return Recorder(
                    models,
                    optimizers,
                    self._options.path_of(self._n_attached),
                    grad_scaler=scalers[-1] if scalers else None,
                    on_health=self._alarm,
                    **self._options.of_recorder,
                )
            except RecordingExistsError:
                if self._options.is_chosen:
                    raise

    def _close_rivals(self, newest: Recorder) -> None:
        """End recordings of the same parameters: a new optimizer means a new training."""
        trained = trained_parameters(self._recorders[newest])
        for recorder, optimizers in list(self._recorders.items()):
            if recorder is not newest and trained & trained_parameters(optimizers):
                self._close(recorder)
                for optimizer in optimizers:
                    self._replaced[optimizer] = None

    def _tell_of_inner(self, outer: Recorder | None) -> None:
        """Record no further trainings inside this one."""
        if outer is None:
            return
        self._inner.outer = outer
        self.problems.append(TOLD.format(outer.path.name))

    def _close(self, recorder: Recorder, status: str | None = None) -> None:
        self._end(self._recorders.pop(recorder))
        self._losses.forget(recorder)
        self._inner.forget(recorder)
        n_steps, names, _ = recorder.step, self._names.pop(recorder), self._idle.pop(recorder)
        if self.why_stopped:
            recorder.describe(stop_reason=self.why_stopped)
        try:
            recorder.close(status)
        except Exception as error:  # the script has its own end
            self.problems.append(f"{recorder.path} was not finished: {error}")
        if n_steps:
            self.recorded.append(Recorded(recorder.path, n_steps, *names))
        elif recorder._writer.saved is not None:
            recorder.path.unlink(missing_ok=True)

    @property
    def why_stopped(self) -> str:
        """The finding of a health rule that ends the script; empty without."""
        return self._alarm.reason if self._alarm is not None else ""

    def why_nothing(self) -> str:
        """Say why there is no recording."""
        return why_nothing(
            self.problems, records_itself=self._records_itself, n_optimizers=self._n_optimizers
        )
