"""Statistics of every layer's output and of the gradient that arrives there.

Torch's global module hooks are used, so nothing is stored on the model: it can be pickled, copied
and averaged while it is watched, and the copies are not. Inside the forward hook the output is
measured and a hook set on the output tensor; full backward hooks would break the next in-place
activation (pytorch#61519). A forward pass counts for the step only once a gradient flows back
through it, so evaluation never mixes in.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from gradscope.record.distributed.ranks import local
from gradscope.record.hooks import cuda_graphs
from gradscope.record.hooks.compile_taps import Taps, is_being_compiled, never_a_frame
from gradscope.record.measure.reference.sums import (
    LAYER_SUMS,
    OUTPUT,
    OUTPUT_GRAD,
    OUTPUT_SUMS,
    combine_outputs,
)
from gradscope.record.model.layers import LayerTable, first_tensor


class _Pass:
    """One forward pass: the sums of its outputs if it is measured, until a gradient comes back."""

    sums: Tensor
    rows: tuple[Tensor, ...]

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.is_measured = False
        self.is_committed = False
        self.number = 0
        self.seen: set[int] = set()

    def measure(self, n_layers: int, device: torch.device) -> None:
        """Make a row of sums for each layer."""
        self.is_measured = True
        self.sums = torch.zeros(n_layers, len(OUTPUT_SUMS), dtype=torch.float64, device=device)
        self.rows = self.sums.unbind()


class Activations:
    """Watches the forward and backward passes of some models.

    Parameters
    ----------
    table : LayerTable
        Learns execution order and resolution from the first pass that counts.
    add_output : callable
        Adds the sums of a tensor to a row of `measures.OUTPUT_SUMS`.
    on_forward : callable
        Called when a root model starts a pass with gradients; says whether to measure it.
    """

    def __init__(
        self,
        table: LayerTable,
        add_output: Callable[[Tensor, Tensor], None],
        on_forward: Callable[[], bool],
        *,
        device: torch.device,
        is_measuring: bool,
    ) -> None:
        self._table = table
        self._add_output = add_output
        self._on_forward = on_forward
        self._device = device
        self._is_measuring = is_measuring
        self._roots = set(table.models.values())
        self._learns = True
        self._seconds = 0.0
        self._n_passes = 0
        self._is_in_root = False
        self.taps = Taps(self, self._roots)
        self.taps.is_on = is_measuring
        self.index: dict[nn.Module, int] = {}
        self.reindex(table.layers)
        never_a_frame(self._before_forward, self._after_forward, is_being_compiled)
        self._eager_before = torch.compiler.disable(self._see_before)
        self._eager_after = torch.compiler.disable(self._see_after)
        self._handles = [
            torch_module.register_module_forward_pre_hook(self._before_forward),
            torch_module.register_module_forward_hook(self._after_forward, with_kwargs=True),
        ]

    def reindex(self, modules: Iterable[nn.Module]) -> None:
        """Set which row each measured layer has, and forget what was gathered."""
        measured = modules if self._is_measuring else ()
        self.index = {module: row for row, module in enumerate(measured)}
        self.taps.add(self.index)
        self._restart()

    def stop_learning(self) -> None:
        """Keep order and resolution as they are from now on."""
        self._learns = False
        self._table.forget_outputs()

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
            torch_module._global_forward_hooks_with_kwargs.pop(handle.id, None)  # torch leaves it
        self.taps.close()
        self._passes.clear()

    def take(self) -> tuple[Tensor, int, int]:
        """Hand over sums (layer, len(LAYER_SUMS)), micro-batches and examples; start afresh."""
        for source in self._committed:  # only now: checkpointing measures late, in backward
            combine_outputs(self._sums[:, OUTPUT], source.sums)
        taken = self._sums, self.n_microbatches, self.batch_size
        self._restart()
        return taken

    def put_back(
        self, rows: dict[nn.Module, int], sums: Tensor, n_microbatches: int, batch_size: int
    ) -> None:
        """Take up again what was gathered under other row numbers, ``rows``."""
        for module, row in self.index.items():
            if module in rows:
                self._sums[row] = sums[rows[module]]
        self.n_microbatches, self.batch_size = n_microbatches, batch_size

    def take_seconds(self) -> float:
        """Hand over the host time spent in hooks since the last call."""
        taken, self._seconds = self._seconds, 0.0
        return taken

    def _restart(self) -> None:
        shape = (len(self.index), len(LAYER_SUMS))
        self._sums = torch.zeros(shape, dtype=torch.float64, device=self._device)
        self._grad_rows: tuple[Tensor, ...] = ()
        self._passes: list[_Pass] = []
        self._committed: list[_Pass] = []
        self.n_microbatches = self.batch_size = 0
        self._is_in_root = False

    def _before_forward(self, module: nn.Module, args: tuple) -> None:
        if not torch.is_grad_enabled():
            return
        if torch.compiler.is_compiling():
            self.taps.trace_before(module, args)
        elif is_being_compiled():  # between two graphs
            self._eager_before(module, args)
        else:
            self._see_before(module, args)

    def _after_forward(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        if not torch.is_grad_enabled():
            return None
        if torch.compiler.is_compiling():
            return self.taps.trace_after(module, output)
        if is_being_compiled():
            self._eager_after(module, args, kwargs, output)
        else:
            self._see_after(module, args, kwargs, output)
        return None

    def _see_before(self, module: nn.Module, args: tuple) -> None:
        if module in self._roots and not _is_in_backward():
            self._start_pass(_count_examples(args))
            self._is_in_root = True
        if self._learns and module in self._table.layers and next(module.children(), None):
            self._table.observe_call(module)

    def _start_pass(self, n_examples: int) -> None:
        if not self._passes and cuda_graphs.is_capturing():
            self._sums.zero_()  # within the graph, so that replays do not add up
        self._passes.append(_Pass(n_examples))
        self._n_passes += 1
        self._passes[-1].number = self._n_passes
        if self._on_forward():
            self._passes[-1].measure(len(self.index), self._device)

    def _see_after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        is_root, is_layer = module in self._roots, module in self._table.layers
        self._is_in_root &= not is_root
        tensor = first_tensor(output) if is_root or is_layer else None
        if tensor is None:
            return
        if not self._passes:  # somebody calls parts of the model, never the whole
            self._start_pass(_count_examples(args))
        current = self._passes[-1]
        if is_root and not current.batch_size:  # global hooks see keywords only afterwards
            current.batch_size = _count_examples(tuple(kwargs.values()))
        if is_root and tensor.requires_grad:
            tensor.register_hook(functools.partial(self._commit, current))
        if is_layer:
            self._see_layer(module, args, tensor, current)

    def _see_layer(self, module: nn.Module, args: tuple, tensor: Tensor, current: _Pass) -> None:
        if self._learns:
            self._table.observe_output(module, args, tensor)
        row = self.index.get(module)
        if row is None or not self._measure(row, tensor, current):
            return
        if tensor.requires_grad:
            tensor.register_hook(functools.partial(self._on_output_grad, row, current))

    def _measure(self, row: int, tensor: Tensor, current: _Pass) -> bool:
        """Add an output to the sums of its pass, unless it is not wanted or not new."""
        if not current.is_measured:
            return False
        if _is_in_backward() and row in current.seen:
            return False  # checkpointing runs the layer once more; it was counted the first time
        if not _is_in_backward():
            current.seen.add(row)
        began = time.perf_counter()
        self._add_output(local(tensor.detach()), current.rows[row])
        self._seconds += time.perf_counter() - began
        return True

    # -- from compiled graphs (`gradscope.record.hooks.compile_taps`)

    def begin_compiled(self, n_examples: int) -> None:
        """Begin the pass of a compiled root."""
        if not self._is_in_root and not _is_in_backward():
            self._start_pass(n_examples)

    def see_compiled(self, module: nn.Module, output: Tensor) -> int:
        """Measure a layer's output; return the number of its pass."""
        if not self._passes:
            self._start_pass(output.shape[0] if output.ndim else 0)
        current = self._passes[-1]
        if self._learns:
            self._table.observe_output(module, (), output)
        if module in self.index:
            self._measure(self.index[module], output, current)
        return current.number

    def see_compiled_grad(self, module: nn.Module, number: int, grad: Tensor) -> None:
        """Measure the gradient of a layer's output and count its pass."""
        for source in self._passes:
            if source.number == number:
                self._commit(source)
                if source.is_measured and module in self.index:
                    self._on_output_grad(self.index[module], source, grad)

    def _on_output_grad(self, row: int, source: _Pass, grad: Tensor) -> None:
        began = time.perf_counter()
        self._commit(source)
        if not self._grad_rows:  # in measured steps only
            self._grad_rows = self._sums[:, OUTPUT_GRAD].unbind()
        self._add_output(local(grad.detach()), self._grad_rows[row])
        self._seconds += time.perf_counter() - began

    def _commit(self, source: _Pass, _grad: Tensor | None = None) -> None:
        if source.is_committed:
            return
        source.is_committed = True
        self.n_microbatches += 1
        self.batch_size += source.batch_size
        if source.is_measured:
            self._committed.append(source)


def _count_examples(args: tuple) -> int:
    """Length of the first axis of the first tensor a model is called with; tokens count too."""
    examples = next((a for a in args if isinstance(a, Tensor) and a.ndim), None)
    examples = first_tensor(args) if examples is None else examples
    return examples.shape[0] if examples is not None and examples.ndim else 0


def _is_in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1
