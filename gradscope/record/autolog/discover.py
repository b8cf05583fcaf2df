"""Find the modules that an optimizer trains in an uninstrumented script.

The model is the module that is called from outside. Where only parts are called, or nothing was
called yet, Python's garbage collector lists every module, and the outermost owners are taken.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from sys import getrefcount
from types import CodeType
from typing import TypeVar

from torch import nn
from torch.optim import Optimizer

from gradscope.record.live import is_attached
from gradscope.record.model.identity import is_among
from gradscope.record.model.optimizers.unwrap import unwrap_optimizer
from gradscope.record.model.wrappers import parameters_of

_Thing = TypeVar("_Thing")
_NO_NAMES = {"self", "module", "model", "optimizer", "thing", "called"}
"""Variables of torch and of ours that hold whatever comes by."""

_UNSHARED = 3
"""References to a copy of a function's variables: the frame's, ours, and that of the count."""


def trained_parameters(optimizers: Iterable[Optimizer]) -> set[int]:
    """Return the ids of all tensors that these optimizers train."""
    return {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}


def owns_any(module: nn.Module, trained: Collection[int]) -> bool:
    """Whether a module, or one inside it, owns one of these tensors."""
    return any(id(p) in trained for p in parameters_of(module))


def wraps_known(optimizer: Optimizer, alive: Collection[int]) -> bool:
    """Whether the optimizers that do an optimizer's steps are recorded, or among some by id."""
    inner = [one for one in unwrap_optimizer(optimizer) if one is not optimizer]
    return any(id(one) in alive or is_attached(one) for one in inner)


def find_models(optimizers: Sequence[Optimizer], called: nn.Module | None) -> list[nn.Module]:
    """Return the modules to record: outermost, disjoint, owning what the optimizers train.

    Parameters
    ----------
    optimizers : sequence of Optimizer
    called : Module or None
        The module whose call from outside was seen first.

    Returns
    -------
    list of Module
        ``called`` (or the ``LightningModule`` around it) first; empty where no module owns any of
        the tensors, as when an image is optimised.
    """
    trained = trained_parameters(optimizers)
    owners = [m for m in _living_modules() if owns_any(m, trained)]
    roots: list[nn.Module] = []
    if called is not None:
        roots.append(next((m for m in owners if _is_trained_by_steps(m, called)), called))
        trained -= {id(p) for p in parameters_of(roots[0])}
    inside = {id(child) for m in owners for child in m.modules() if child is not m}
    for module in owners:
        is_known = id(module) in inside or is_among(module, roots)
        if not is_known and owns_any(module, trained):
            roots.append(module)
    return _outermost(roots)


def _living_modules() -> list[nn.Module]:
    """All modules of the process; types are asked, never objects, which may be lazy proxies."""
    return [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]


def _is_trained_by_steps(module: nn.Module, called: nn.Module) -> bool:
    """Whether this is a LightningModule around a called part; nobody calls it as a whole."""
    return hasattr(module, "training_step") and any(m is called for m in module.modules())


def _outermost(roots: list[nn.Module]) -> list[nn.Module]:
    inside = {id(child) for root in roots for child in root.modules() if child is not root}
    return [root for root in roots if id(root) not in inside]


def variable_names(things: Sequence[object]) -> dict[int, str]:
    """Find by which variable the running program holds each; outer scopes win. Keys are ids."""
    wanted = {id(thing) for thing in things}
    held: dict[int, str] = {}
    frame = inspect.currentframe()
    while frame is not None:
        variables = frame.f_locals
        found = {id(v): name for name, v in variables.items() if name not in _NO_NAMES}
        held |= {key: found[key] for key in wanted & found.keys()}
        if getrefcount(variables) <= _UNSHARED:
            _let_go(variables, frame.f_code)
        frame = frame.f_back
    return held


def _let_go(variables: Mapping[str, object], code: CodeType) -> None:
    """Empty a copy of a function's variables, by which a model would live as long as it runs.

    What ``exec`` has put there stands nowhere else. A debugger's tracing writes the copy back.
    """
    if type(variables) is dict and code.co_flags & inspect.CO_OPTIMIZED and not sys.gettrace():
        for name in (*code.co_varnames, *code.co_cellvars, *code.co_freevars):
            variables.pop(name, None)


def named(things: Sequence[_Thing], held: Mapping[int, str]) -> dict[str, _Thing]:
    """Return name to thing; see `names_of`."""
    return dict(zip(names_of(things, held), things, strict=True))


def names_of(things: Sequence[object], held: Mapping[int, str]) -> list[str]:
    """Name each by the variable that holds it, else by its class; a single one "".

    >>> net, loss = nn.Linear(2, 2), nn.Identity()
    >>> names_of([net, loss], {id(net): "net"})
    ['net', 'Identity']
    >>> names_of([net], {})
    ['']
    """
    if len(things) == 1:
        return [""]
    names: list[str] = []
    for thing in things:
        name = held.get(id(thing), type(thing).__name__)
        n = sum(other == name or other.startswith(f"{name}-") for other in names)
        names.append(f"{name}-{n + 1}" if n else name)
    return names
