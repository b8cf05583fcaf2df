"""Whether a module runs for real or is being transformed, traced or exported."""

from __future__ import annotations

import torch


def is_transformed() -> bool:
    """Whether the module runs inside vmap, grad, jvp or the like, or is being traced."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.jit._trace.is_tracing()


def is_exporting() -> bool:
    """Whether torch.export is tracing, whose programs must load without gradscope."""
    ask = getattr(torch.compiler, "is_exporting", None)
    return bool(ask is not None and ask())
