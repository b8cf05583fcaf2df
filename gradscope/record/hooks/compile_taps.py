"""Activations from inside compiled graphs, without a graph break.

While ``torch.compile`` traces a module, the recorder's forward hook puts its output through an
operator that copies it; the copy's backward does the same with the gradient. To the compiler both
are opaque copies; when the graph runs, they hand what passes to the recorder. A graph is traced
with taps or without, by `Taps.is_on`, so that steps that are not measured run untouched.
"""

from __future__ import annotations

import itertools
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch._C._dynamo import eval_frame as frames

from gradscope.errors import warn
from gradscope.record.hooks.batch_size import TIME_FIRST, count_rows, puts_time_first

_open: weakref.WeakValueDictionary[int, Taps] = weakref.WeakValueDictionary()
_keys = itertools.count()


def never_a_frame(*functions: Any) -> None:
    """Mark functions that may be traced as part of a graph, but are no graph of their own."""
    from torch._dynamo.eval_frame import skip_code

    for function in functions:
        skip_code(function.__code__)


def is_being_compiled() -> bool:
    """Whether frames that begin now would be compiled."""
    ask = getattr(frames, "get_eval_frame_callback", None)
    return ask is None or ask() not in (None, False)


def never_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function so that no compiler traces it: in a graph it does nothing.

    Between two graphs of a compiled function it runs as it is.
    """
    hidden: list[Callable[..., Any]] = []

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling():
            return None
        if not is_being_compiled():
            return function(*args)
        if not hidden:
            hidden.append(torch.compiler.disable(function))
        return hidden[0](*args)

    never_a_frame(call, is_being_compiled)
    return call


def ignore_compile_warning() -> Callable[[], None]:
    """Silence what torch says at each call of a compiled module; returns how to undo it.

    Its global hooks fire once more on torch's wrapper: they may. The filter is an entry of its own,
    also beside an equal one of somebody else, and leaves the lists that it was put into.
    """
    key = next(_keys)
    message = r"Using `torch\.compile\(module\)` when there are global hooks" + f"(?#{key})"
    warnings.filterwarnings("ignore", message, UserWarning)
    filters, entry = warnings.filters, warnings.filters[0]

    def undo() -> None:
        for entries in (filters, warnings.filters):
            if entry in entries:
                cast(list[Any], entries).remove(entry)

    return undo


class Listener(Protocol):
    """What a compiled graph reports to."""

    def begin_compiled(self) -> None:
        """A pass of a compiled root model begins."""

    def end_compiled(self, n_examples: int, source: str) -> None:
        """It ends; ``source`` says how its number of examples is known, or why it is not."""

    def see_compiled(self, module: nn.Module, output: Tensor) -> int:
        """Take a layer's output; return the number of the pass."""

    def see_compiled_grad(self, module: nn.Module, number: int, grad: Tensor) -> None:
        """Take the gradient of a layer's output in the pass of that number."""


class Taps:
    """The taps of one recorder.

    Parameters
    ----------
    listener : Listener
    roots : iterable of Module
        Whose call begins a pass.
    """

    def __init__(self, listener: Listener, roots: Iterable[nn.Module]) -> None:
        self.listener = listener
        self.is_on = True
        self.key = next(_keys)
        self.modules: list[nn.Module] = []
        self.unseen: set[int] = set()
        """Ids of the modules of which no output has been measured."""
        self._ids: dict[nn.Module, int] = {}
        inner = (getattr(root, "_orig_mod", root) for root in roots)
        self._roots = {root: not puts_time_first(root) for root in inner}
        self._has_checked = False
        self._clock = torch.zeros((), dtype=torch.int64, device="cpu")
        self._unsilence = ignore_compile_warning()
        _open[self.key] = self

    def add(self, modules: Iterable[nn.Module]) -> None:
        """Tap some more modules, in graphs that are traced from now on."""
        for module in modules:
            if module not in self._ids:
                self._ids[module] = len(self.modules)
                self.modules.append(module)
                self.unseen.add(id(module))

    def close(self) -> None:
        """Listen no more; what graphs still hold only copies."""
        _open.pop(self.key, None)
        self._unsilence()

    def release(self) -> None:
        """Let go of the modules."""
        self.modules.clear()
        self.unseen.clear()
        self._ids.clear()
        self._roots.clear()

    def check_once(self, *, has_backward: bool) -> None:
        """After the first measured step, warn if activations are missing and a compiler may be why.

        ``has_backward`` says whether a backward call has been seen to go through the model.

        A layer that trained unseen may also have been used through its weights alone, as attention
        uses its output projection; it is told only where most layers are like it.
        """
        dynamo = sys.modules.get("torch._dynamo")
        if self._has_checked or dynamo is None or not dynamo.utils.counters["frames"]:
            return
        trained = [m for m in self.modules if any(p.grad is not None for p in m.parameters(False))]
        self._has_checked = bool(trained)
        n = sum(id(module) in self.unseen or not has_backward for module in trained)
        if 2 * n <= len(trained):
            return
        warn(
            f"activations are missing: no pass was seen through {n} of {len(trained)} layers that "
            "have gradients. They were compiled before the recorder was attached, or their "
            "gradients are set by hand. Everything else is recorded. Attach the recorder before "
            "the first call of a compiled model, or call torch.compiler.reset() after attaching",
            stacklevel=4,
        )

    def trace_before(self, module: nn.Module) -> None:
        """Put the beginning of a pass into the graph that is being traced."""
        if module in self._roots:
            _begin(self._clock, self.key)

    def trace_after(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Return a layer's output by way of a tap; None to leave it as it is."""
        if module in self._roots:
            n, source = count_rows(args, kwargs, output)
            if n != 0 and not self._roots[module]:
                n, source = 0, TIME_FIRST
            _end(self._clock, self.key, n, source)
        number = self._ids.get(module) if self.is_on else None
        if number is None:
            return None
        if isinstance(output, Tensor):
            return _tap(output, self.key, number)[0] if output.is_floating_point() else None
        if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
            return _tap(output[0], self.key, number)[0], *output[1:]
        return None


@torch.library.custom_op("gradscope::begin", mutates_args=("clock",))
def _begin(clock: Tensor, key: int) -> None:
    clock += 1
    taps = _open.get(key)
    if taps is not None:
        taps.listener.begin_compiled()


@torch.library.custom_op("gradscope::end", mutates_args=("clock",))
def _end(clock: Tensor, key: int, n_examples: int, source: str) -> None:
    clock += 1
    taps = _open.get(key)
    if taps is not None:
        taps.listener.end_compiled(n_examples, source)


@torch.library.custom_op("gradscope::tap", mutates_args=())
def _tap(output: Tensor, key: int, number: int) -> tuple[Tensor, Tensor]:
    taps = _open.get(key)
    seen = None if taps is None else taps.listener.see_compiled(taps.modules[number], output)
    return output.clone(), torch.tensor(-1 if seen is None else seen, device="cpu")


@torch.library.custom_op("gradscope::tap_grad", mutates_args=())
def _tap_grad(grad: Tensor, seen: Tensor, key: int, number: int) -> Tensor:
    taps = _open.get(key)
    if taps is not None:
        taps.listener.see_compiled_grad(taps.modules[number], int(seen), grad)
    return grad.clone()


@_begin.register_fake
def _(clock: Tensor, key: int) -> None:
    return None


@_end.register_fake
def _(clock: Tensor, key: int, n_examples: int, source: str) -> None:
    return None


@_tap.register_fake
def _(output: Tensor, key: int, number: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(output), torch.empty((), dtype=torch.int64, device="cpu")


@_tap_grad.register_fake
def _(grad: Tensor, seen: Tensor, key: int, number: int) -> Tensor:
    return torch.empty_like(grad)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, ctx.key, ctx.number = inputs
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, grad: Tensor, _seen: None) -> tuple[Tensor, None, None]:
    return _tap_grad(grad, ctx.saved_tensors[0], ctx.key, ctx.number), None, None


_tap.register_autograd(_backward, setup_context=_setup)
