"""Gradients as they were before a step, also where an optimizer overwrites them within it.

Torch's own optimizers read ``p.grad`` and leave it; others add weight decay to it, normalise it or
use it as a buffer, often through ``.data``, which leaves no trace. Products of update and gradient
then need a copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradscope.native import cuda_graphs
from gradscope.record.model.identity import WeakIdentityMap

N_PROBES = 3
"""Measured steps of an unknown optimizer whose gradients are compared before and after."""
_READERS = ("torch.optim.", "gradscope.optim.")


class KeptGrads:
    """Copies gradients before the steps of optimizers that write to them."""

    def __init__(self) -> None:
        self._n_probes: WeakIdentityMap[int] = WeakIdentityMap()
        self._writers: WeakIdentityMap[None] = WeakIdentityMap()
        self._versions: list[int] = []

    @staticmethod
    def _is_reader(optimizer: torch.optim.Optimizer) -> bool:
        return type(optimizer).__module__.startswith(_READERS)

    def before(self, optimizer: torch.optim.Optimizer, grads: list[Tensor]) -> list[Tensor]:
        """Return the gradients of a step that begins, or copies of them."""
        self._versions = []
        if self._is_reader(optimizer) or cuda_graphs.is_capturing():
            return grads
        if optimizer in self._writers or self._n_probes.get(optimizer, N_PROBES):
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
            self._writers[optimizer] = None
            return False
        n_probes = self._n_probes.get(optimizer, 0 if self._is_reader(optimizer) else N_PROBES)
        if n_probes and optimizer not in self._writers and not cuda_graphs.is_capturing():
            self._n_probes[optimizer] = n_probes - 1
            if not all(map(torch.equal, kept, grads)):
                self._writers[optimizer] = None
        return True


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
