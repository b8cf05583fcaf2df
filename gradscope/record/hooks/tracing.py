"""Torch's hooks on forward passes; whether a module runs for real, or is transformed or traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from gradscope.record.hooks.compile_taps import Taps, is_being_compiled, never_a_frame
from gradscope.record.model.modules import Args, Kwargs

Before = Callable[[nn.Module, Args], None]
After = Callable[[nn.Module, Args, Kwargs, Any], None]


def is_transformed() -> bool:
    """Whether the module runs inside vmap, grad, jvp or the like, or is being traced."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.jit._trace.is_tracing()


def is_exporting() -> bool:
    """Whether torch.export is tracing, whose programs must load without gradscope.

    The flag itself is read: up to torch 2.11, a compiler takes ``is_exporting()`` to be true in
    every graph.
    """
    return bool(getattr(torch.compiler, "_is_exporting_flag", False))


class ForwardHooks:
    """Torch's global module hooks, which see every forward pass with gradients on.

    Parameters
    ----------
    before : callable
        Gets a module and its positional arguments, where it runs as it is written.
    after : callable
        Gets its keyword arguments and its output too.
    taps : Taps
        Gets the same where a compiler traces it.
    """

    def __init__(self, before: Before, after: After, taps: Taps) -> None:
        self._see_before, self._see_after, self._taps = before, after, taps
        self._eager_before = torch.compiler.disable(before)
        self._eager_after = torch.compiler.disable(after)
        never_a_frame(self._before, self._after, is_being_compiled)
        self._handles = [
            torch_module.register_module_forward_pre_hook(self._before),
            torch_module.register_module_forward_hook(self._after, with_kwargs=True),
        ]

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
            torch_module._global_forward_hooks_with_kwargs.pop(handle.id, None)  # torch leaves it

    def _before(self, module: nn.Module, args: Args) -> None:
        if not torch.is_grad_enabled():
            return
        if torch.compiler.is_compiling():
            if not is_exporting():
                self._taps.trace_before(module)
        elif is_being_compiled():  # between two graphs
            self._eager_before(module, args)
        else:
            self._see_before(module, args)

    def _after(self, module: nn.Module, args: Args, kwargs: Any, output: Any = None) -> Any:
        if not torch.is_grad_enabled():  # a hook before may have closed us: then torch forgets one
            return None
        if torch.compiler.is_compiling():
            return None if is_exporting() else self._taps.trace_after(module, args, kwargs, output)
        if is_being_compiled():
            self._eager_after(module, args, kwargs, output)
        else:
            self._see_after(module, args, kwargs, output)
        return None
