"""Gradients as they were before a step, also where an optimizer overwrites them within it.

Torch's own optimizers read ``p.grad`` and leave it; others add weight decay to it, normalise it or
use it as a buffer, often through ``.data``, which leaves no trace. Products of update and gradient
then need a copy.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

N_PROBES = 3
"""Measured steps of an unknown optimizer whose gradients are compared before and after."""
_READERS = ("torch.optim.", "gradscope.optim.")


class KeptGrads:
    """Copies gradients before the steps of optimizers that write to them."""

    def __init__(self) -> None:
        self._n_probes: weakref.WeakKeyDictionary[torch.optim.Optimizer, int] = (
            weakref.WeakKeyDictionary()
        )
        self._writers: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._versions: list[int] = []

    def before(self, optimizer: torch.optim.Optimizer, grads: list[Tensor]) -> list[Tensor]:
        """Return the gradients of a step that begins, or copies of them."""
        self._versions = []
        if type(optimizer).__module__.startswith(_READERS) or _is_capturing():
            return grads
        if optimizer in self._writers or self._n_probes.setdefault(optimizer, N_PROBES):
            return [grad.clone() for grad in grads]
        self._versions = [_version(grad) for grad in grads]
        return grads

    def is_as_before(
        self, optimizer: torch.optim.Optimizer, kept: Sequence[Tensor], grads: Sequence[Tensor]
    ) -> bool:
        """Whether what `before` returned still holds the gradients of the step that has ended."""
        if self._versions:
            if self._versions == [_version(grad) for grad in grads]:
                return True
            self._writers.add(optimizer)
            return False
        if self._n_probes.get(optimizer) and optimizer not in self._writers and not _is_capturing():
            self._n_probes[optimizer] -= 1
            if not all(map(torch.equal, kept, grads)):
                self._writers.add(optimizer)
        return True


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _is_capturing() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
