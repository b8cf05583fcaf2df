"""Quantities that one pure function gives, without a kernel: add yours here.

A quantity is its declaration in `gradscope.schema` (dims step and param) and a function of the same
name here, marked with `quantity`. It is then recorded with its group, at every measured step. The
function is called for each parameter right before the step (with a closure, right after):

    @quantity
    def grad_sign_balance(param, grad, state):
        return grad.sign().double().mean()

Quantities that every recording measures deserve raw sums in `sums` and kernels instead: those read
a tensor once for all of them, and add over ranks. These are missing for sharded parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gradscope import schema
from gradscope.record.measure.custom import Measure

QUANTITIES: dict[str, Measure] = {}
"""The registered functions by the names of their quantities."""


def quantity(function: Measure) -> Measure:
    """Register a function ``fn(param, grad, state)`` that returns a tensor without axes.

    Raises
    ------
    KeyError
        If the schema declares no quantity of its name.
    """
    name = function.__name__
    schema.find(name)
    QUANTITIES[name] = function
    return function


def functions_of(groups: Collection[str], custom: Mapping[str, Measure]) -> dict[str, Measure]:
    """Return the functions that fill the recorded groups, the user's own among them."""
    wanted = {name: fn for name, fn in QUANTITIES.items() if schema.find(name)[0] in groups}
    return wanted | dict(custom)


def group_of(name: str) -> str:
    """Return the group that the result of a function belongs to."""
    return schema.find(name)[0] if name in QUANTITIES else "custom"
