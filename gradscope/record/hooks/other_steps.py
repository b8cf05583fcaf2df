"""Steps of an optimizer that a recorder was not given, on parameters that it records.

A script may make a new optimizer and go on with that, or copy its own. torch's hook on the steps of
all optimizers sees the first such step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from gradscope.record.hooks.compile_taps import never_compiled
from gradscope.record.hooks.step_calls import is_stepping, n_running
from gradscope.record.model.identity import WeakIdentityMap, is_among
from gradscope.record.model.optimizers.unwrap import unwrap_optimizer


class OtherSteps:
    """Sees steps of other optimizers on the same parameters; one hook serves all recorders.

    What wraps a watched optimizer, or is stepped by one, is no other optimizer.

    Parameters
    ----------
    optimizers : collection of Optimizer
        Those that are watched.
    trained : callable
        Returns the parameters that these train now.
    tell : callable of Optimizer
        Called after each step of another one.
    """

    _watches: ClassVar[list[OtherSteps]] = []
    _handle: ClassVar[RemovableHandle | None] = None

    def __init__(
        self,
        optimizers: Collection[Optimizer],
        trained: Callable[[], Iterable[Tensor]],
        tell: Callable[[Optimizer], None],
    ) -> None:
        self._own, self._trained, self._tell = list(optimizers), trained, tell
        self._strangers: WeakIdentityMap[None] = WeakIdentityMap()

    def start(self) -> None:
        """Watch the steps of all optimizers."""
        OtherSteps._watches.append(self)
        self.settle()

    @classmethod
    def settle(cls) -> None:
        """Put the hook into torch, or take it out, unless torch walks through its hooks now."""
        if bool(cls._watches) == (cls._handle is not None) or is_stepping():
            return
        if cls._handle is None:
            cls._handle = register_optimizer_step_post_hook(never_compiled(_see_any))
        else:
            cls._handle.remove()
            cls._handle = None

    def close(self) -> None:
        """Watch no more."""
        self._own = []
        if self in OtherSteps._watches:
            OtherSteps._watches.remove(self)
        self.settle()

    def see(self, optimizer: Optimizer) -> None:
        """Tell of a step if it is another's."""
        if is_among(optimizer, self._own) or optimizer in self._strangers:
            return
        ours = {id(p) for p in self._trained()}
        theirs = {id(p) for group in optimizer.param_groups for p in group["params"]}
        is_wrapper = any(is_among(one, self._own) for one in unwrap_optimizer(optimizer))
        if is_wrapper or not ours & theirs:
            self._strangers[optimizer] = None
        elif not any(n_running(own) for own in self._own):
            self._tell(optimizer)


def _see_any(optimizer: Optimizer, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    for watch in list(OtherSteps._watches):
        watch.see(optimizer)
