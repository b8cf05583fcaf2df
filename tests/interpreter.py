"""Triton's interpreter, quickened: imported by programs that run kernels on the CPU."""

from __future__ import annotations

import functools
import inspect

import triton.language as tl

_getmembers = inspect.getmembers


@functools.cache
def _builtins(namespace):
    return [name for name, member in _getmembers(namespace) if tl.core.is_builtin(member)]


def _members(namespace, predicate=None):
    owner = getattr(namespace, "__module__", None) or getattr(namespace, "__name__", "")
    if predicate is None and owner.startswith("triton.language"):
        members = [(name, getattr(namespace, name)) for name in _builtins(namespace)]
        is_replaced = bool(members) and not tl.core.is_builtin(members[0][1])
        return [] if is_replaced else members
    return _getmembers(namespace, predicate)


# Each call of a device function looks through all of triton.language for what it replaces: two
# thirds of the time. It replaces the builtins only, and which names those are does not change.
inspect.getmembers = _members
