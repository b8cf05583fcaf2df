"""Whether a module runs for real or is being transformed, traced or exported."""

from __future__ import annotations

import torch


def is_transformed() -> bool:
    """Whether the module runs inside vmap, grad, jvp or the like, or is being traced."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.jit._trace.is_tracing()


def is_exporting() -> bool:
    """Whether torch.export is tracing, whose programs must load without gradscope.

    The flag itself is read: up to torch 2.11, a compiler takes ``is_exporting()`` to be true in
    every graph.
    """
    return bool(getattr(torch.compiler, "_is_exporting_flag", False))
