"""Per-layer statistics of outputs and of the gradients that arrive there.

Torch's global module hooks are used, so nothing is stored on the model: it can be pickled, copied
and averaged while it is watched, and the copies are not. Inside the forward hook the output is
measured and a hook set on the output tensor; full backward hooks would break the next in-place
activation (pytorch#61519). A forward pass counts for the step only once a backward call that
reaches the parameters flows back through it (`gradscope.record.hooks.passes`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gradscope.native import cuda_graphs
from gradscope.record.guard import Guard
from gradscope.record.hooks.accumulation import Accumulation, is_in_backward
from gradscope.record.hooks.batch_size import PassCounts, TimeFirst, count_examples, counted
from gradscope.record.hooks.compile_taps import Taps
from gradscope.record.hooks.passes import Pass, Passes, rearranged
from gradscope.record.hooks.tracing import ForwardHooks, is_transformed
from gradscope.record.measure.dense import data_of
from gradscope.record.measure.reference.sums import LAYER_SUMS, OUTPUT, OUTPUT_GRAD, combine_outputs
from gradscope.record.model.layers import LayerTable
from gradscope.record.model.modules import Args, Kwargs, first_tensor, has_children, watch_outputs

_GUARDED = (
    *("_see_before", "_see_after", "_see_grad", "_see_root_grad"),
    *("begin_compiled", "end_compiled", "see_compiled", "see_compiled_grad"),
)
"""Methods that torch calls."""


class Activations:
    """Watches the forward and backward passes of some models.

    Parameters
    ----------
    table : LayerTable
        Learns execution order and resolution from the first pass that counts.
    add_output : callable
        Adds the sums of a tensor to a row of `sums.OUTPUT_SUMS`.
    on_forward : callable
        Called when a pass with gradients begins; says whether to measure it.
    on_backward : callable
        Called when a backward call begins that reaches the parameters.
    on_discard : callable
        Called when the gradients of earlier backward calls turn out to have been zeroed.
    params : callable
        Returns the parameters that may train now.
    guard : Guard
    """

    def __init__(
        self,
        table: LayerTable,
        add_output: Callable[[Tensor, Tensor], None],
        on_forward: Callable[[], bool],
        on_backward: Callable[[], None],
        on_discard: Callable[[], None],
        *,
        params: Callable[[], Iterable[Tensor]],
        guard: Guard,
        device: torch.device,
        is_measuring: bool,
    ) -> None:
        self._table = table
        self._add_output = add_output
        self._on_forward, self._on_discard = on_forward, on_discard
        self._device = device
        self._is_measuring = is_measuring
        self._roots = {id(model) for model in table.models.values()}
        self._seconds = 0.0
        self._sums: Tensor
        self._grad_rows: tuple[Tensor, ...]
        self.passes = Passes(Accumulation(params), on_backward, self._discard, guard)
        self.index: dict[int, int] = {}
        """Row of each measured layer, by the id of its module."""
        self._time_first = TimeFirst()
        self._hooks: ForwardHooks | None = None
        self.taps = Taps(self, table.models.values())
        self.taps.is_on = is_measuring
        try:
            self._restart()
            self.reindex([layer.module for layer in table.layers.values()])
            for name in _GUARDED:
                setattr(self, name, guard.wrap(getattr(self, name)))
            self._hooks = ForwardHooks(self._see_before, self._see_after, self.taps)
        except BaseException:
            self.close()
            self.release()
            raise

    def reindex(self, modules: Iterable[nn.Module]) -> None:
        """Set which row each measured layer has; what was gathered follows."""
        self._time_first = TimeFirst()
        before = self.index
        measured = list(modules) if self._is_measuring else []
        self.index = {id(module): row for row, module in enumerate(measured)}
        places = [before.get(key, -1) for key in self.index]
        if places != list(range(len(before))):
            self.passes.rearrange(places)
        self._sums = rearranged(self._sums, places)
        self._grad_rows = ()
        self.taps.add(measured)

    def close(self) -> None:
        """Remove the hooks."""
        if self._hooks is not None:
            self._hooks.close()
            self._hooks = None
        self.taps.close()

    def release(self) -> None:
        """Let go of the models."""
        self._table.release()
        self._roots.clear()
        self.passes.release()
        self.taps.release()

    def take(self) -> tuple[Tensor, PassCounts]:
        """Hand over sums (layer, len(LAYER_SUMS)) and counts of a step, and start afresh."""
        for source in self.passes.committed:  # only now: checkpointing measures late, in backward
            if source.is_measured:
                combine_outputs(self._sums[:, OUTPUT], self.passes.arranged(source).sums)
        taken = self._sums, self.passes.take()
        self._restart()
        return taken

    def take_seconds(self) -> float:
        """Hand over the host time spent in hooks since the last call."""
        taken, self._seconds = self._seconds, 0.0
        return taken

    def _restart(self) -> None:
        shape = (len(self.index), len(LAYER_SUMS))
        self._sums = torch.zeros(shape, dtype=torch.float64, device=self._device)
        self._grad_rows = ()
        self._is_fresh = True
        self._is_in_root = self._is_in_compiled = False

    def _discard(self) -> None:
        """Forget the output gradients of backward calls whose gradients were thrown away."""
        self._sums[:, OUTPUT_GRAD] = 0.0
        self._on_discard()

    # -- forward

    def _see_before(self, module: nn.Module, args: Args) -> None:
        is_root = id(module) in self._roots
        table = self._table
        is_parent = table.is_learning and id(module) in table.layers and has_children(module)
        if not (is_root or is_parent) or is_transformed():
            return
        if is_root and not is_in_backward():
            self._start_pass(module)
            self._is_in_root = True
        if is_parent:
            table.observe_call(module)

    def _start_pass(self, root: nn.Module | None = None, *, follows: bool = False) -> Pass:
        is_measured = self._on_forward()
        if self._is_fresh and cuda_graphs.is_capturing():
            self._sums.zero_()  # within the graph, so that replays do not add up
        self._is_fresh = False
        n_layers = len(self.index) if is_measured else None
        return self.passes.start(n_layers, self._device, root, follows=follows)

    def _see_after(self, module: nn.Module, args: Args, kwargs: Kwargs, output: Any) -> None:
        is_root, is_layer = id(module) in self._roots, id(module) in self._table.layers
        if not (is_root or is_layer) or is_transformed():
            return
        self._is_in_root &= not is_root
        tensor = first_tensor(output)
        if tensor is None:
            return
        is_part = not (self._is_in_root or is_root)  # somebody calls parts, not the whole
        current = self.passes.current if is_part else self.passes.latest
        if current is None or (is_part and current.ends_at(module, (args, kwargs), tensor)):
            current = self._start_pass(module, follows=current is not None)
        if not current.examples.n and (is_root or is_part):
            current.examples = count_examples(module, args, kwargs, output, self._time_first)
        if is_root:
            watch_outputs(module, output, self._see_root_grad, current)
        if is_layer:
            self._see_layer(module, args, kwargs, tensor, current)

    def _see_layer(
        self, module: nn.Module, args: Args, kwargs: Kwargs, tensor: Tensor, current: Pass
    ) -> None:
        if self._table.is_learning:
            self._table.observe_output(module, args, tensor)
        if self._measure(module, tensor, current):
            current.has_grad |= tensor.requires_grad
            watch_outputs(module, tensor, self._see_grad, module, current, inputs=(args, kwargs))

    def _measure(self, module: nn.Module, tensor: Tensor, current: Pass) -> bool:
        """Add an output to the sums of its pass, unless it is not wanted or not new."""
        key, row = id(module), self.index.get(id(module))
        if row is None or not current.is_measured:
            return False
        if not is_in_backward():
            current.seen.add(key)
        elif key in current.seen:
            return False  # checkpointing runs the layer once more; it was counted the first time
        began = time.perf_counter()
        self.taps.unseen.discard(key)
        self._add(tensor, self.passes.arranged(current).rows[row])
        self._seconds += time.perf_counter() - began
        return True

    def _add(self, tensor: Tensor, sums: Tensor) -> None:
        """Add a tensor to a row of sums; they are missing if it cannot be read."""
        if (values := data_of(tensor)) is None:
            sums.fill_(torch.nan)
        else:
            self._add_output(values, sums)

    # -- from compiled graphs (`gradscope.record.hooks.compile_taps`)

    def begin_compiled(self) -> None:
        """Begin the pass of a compiled root."""
        if not self._is_in_root and not is_in_backward():
            self._start_pass()
            self._is_in_compiled = True

    def end_compiled(self, n_examples: int, source: str) -> None:
        """End the pass of a compiled root, whose call tells of so many examples."""
        if not self._is_in_root and not is_in_backward():
            self._is_in_compiled = False
            if self.passes.current is not None:
                self.passes.current.examples = counted(n_examples, source)

    def see_compiled(self, module: nn.Module, output: Tensor) -> int:
        """Measure a layer's output; return the number of its pass."""
        current = self.passes.current
        is_part = not (self._is_in_root or self._is_in_compiled)
        if current is None or (is_part and current.ends_at(module)):
            current = self._start_pass(follows=current is not None)
        if self._table.is_learning:
            self._table.observe_output(module, (), output)
        self._measure(module, output, current)
        return current.number

    def see_compiled_grad(self, module: nn.Module, number: int, grad: Tensor) -> None:
        """Measure the gradient of a layer's output and count its pass."""
        source = self.passes.find(number)
        if source is not None:
            if source.is_measured and id(module) in self.index:
                self._see_grad(module, source, grad)
            else:
                self.passes.commit(source)
        elif self.passes.is_dropped(number) and (row := self.index.get(id(module))) is not None:
            self._sums[row].fill_(torch.nan)

    # -- backward

    def _see_root_grad(self, source: Pass, _grad: Tensor) -> None:
        self.passes.commit(source)

    def _see_grad(self, module: nn.Module, source: Pass, grad: Tensor) -> None:
        began = time.perf_counter()
        call = self.passes.commit(source, is_early=id(module) in source.seen)
        row = self.index.get(id(module))
        if call is None or row is None:
            return
        if not self._grad_rows:  # in measured steps only
            self._grad_rows = self._sums[:, OUTPUT_GRAD].unbind()
        if source.grad_call.setdefault(id(module), call) is not call:
            self._grad_rows[row].fill_(torch.nan)  # squares of two calls do not add
        else:
            self._add(grad, self._grad_rows[row])
        self._seconds += time.perf_counter() - began
