"""Whether a backward call reaches the parameters, and whether its gradients were thrown away.

The gradients that an optimizer consumes come from the backward calls that accumulated into
``p.grad`` since it was last zeroed. ``torch.autograd.grad`` accumulates nothing, so penalties and
attacks that use it do not count; what ``zero_grad`` discards before the step does not count either.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor

from gradscope.record.distributed.ranks import is_sharded

N_PROBES = 3
"""Parameters whose gradients are watched for being zeroed."""


@dataclass
class _Probe:
    tensor: Tensor
    version: int | None = None

    def note(self, *, only_cpu: bool = False) -> None:
        grad = self.tensor.grad
        if grad is None or (only_cpu and grad.device.type != "cpu"):
            self.version = None
        else:
            self.version = grad._version


class Accumulation:
    """Watches where the gradients of some parameters accumulate.

    Parameters
    ----------
    params : callable
        Returns the parameters that may train now.
    """

    def __init__(self, params: Callable[[], Iterable[Tensor]]) -> None:
        self._params = params
        self._probes: list[_Probe] = []
        self._next_probes: list[_Probe] = []

    def reaches(self) -> bool:
        """Whether the backward call in progress accumulates into a parameter."""
        found: list[_Probe] = []
        for p in _spread(list(self._params())):
            if is_sharded(p) or hasattr(p, "_is_flat_param"):  # accumulates outside the graph
                self._next_probes = []
                return True
            if any(p is probe.tensor for probe in found):
                continue
            if p.requires_grad and p.is_leaf and _will_accumulate(p):
                found.append(_Probe(p))
                if len(found) == N_PROBES:
                    break
        self._next_probes = found
        return bool(found)

    def begin_call(self) -> bool:
        """Begin a counted call; return whether gradients were discarded since the one before."""
        is_discarded = bool(self._probes) and all(map(_is_discarded, self._probes))
        self._probes = self._next_probes
        for probe in self._probes:  # a call that raises has no end
            probe.note(only_cpu=True)
        return is_discarded

    def end_call(self) -> None:
        """Note the gradients as the call left them."""
        for probe in self._probes:
            probe.note()

    def forget(self) -> None:
        """Begin afresh: the gradients have been consumed."""
        self._probes = []

    def release(self) -> None:
        """Let go of the parameters."""
        self._probes, self._next_probes = [], []


def _spread(params: list[Tensor]) -> Iterator[Tensor]:
    """Iterate over all, first over some that lie apart: a user may zero a layer's gradients."""
    yield from params[:: max(len(params) // 2, 1)]
    yield from params


def _will_accumulate(param: Tensor) -> bool:
    # The node is not kept: one that outlives its graph ties later backward calls to its stream.
    try:
        node = torch.autograd.graph.get_gradient_edge(param).node
    except (RuntimeError, AttributeError):  # inside an operator of a compiled graph
        return True
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # autograd.grad with respect to this very parameter
        return False


def _is_discarded(probe: _Probe) -> bool:
    grad = probe.tensor.grad
    if grad is None:
        return True
    if grad._version == probe.version:
        return False
    # Written to since: zeroed in place, or clipped or unscaled. Only the CPU is asked which.
    if grad.device.type != "cpu":
        return probe.version is not None
    return not bool(grad.any())


def at_end_of_backward(function: Callable[[], None]) -> None:
    """Call a function once the backward call in progress has ended."""
    torch.autograd.Variable._execution_engine.queue_callback(function)


def is_question() -> bool:
    """Whether the innermost autograd call of this thread is ``autograd.grad``."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename == torch.autograd.__file__ and code.co_name in ("grad", "backward"):
            return code.co_name == "grad"
        frame = frame.f_back
    return False


def is_in_backward() -> bool:
    """Whether autograd is running a backward call in this thread."""
    return torch._C._current_graph_task_id() != -1
