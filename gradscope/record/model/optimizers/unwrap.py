"""Find the optimizer whose step updates the parameters, inside what a user hands over.

Accelerate, Fabric, Lightning, Lookahead, SAM, schedule-free wrappers and DeepSpeed hold the real
optimizer in one of their attributes and call its ``step``. The attribute has many names, so it is
found by its type and by the parameters that it trains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, cast

from torch import nn
from torch.optim import Optimizer

from gradscope.errors import warn
from gradscope.record.model.wrappers import parameters_of


def as_optimizers(optimizer: object) -> dict[str, Optimizer]:
    """Return name to optimizer for one optimizer or several, each without its wrapper.

    Parameters
    ----------
    optimizer : Optimizer, mapping of str to Optimizer, or sequence of Optimizer
        Those of a sequence are named by their number. A wrapper around several optimizers counts as
        these, numbered too.

    Raises
    ------
    TypeError
        If something is no optimizer, or one whose step cannot be watched.
    ValueError
        If there is none, or one is given twice.
    """
    if isinstance(optimizer, list | tuple):
        optimizer = {str(i): item for i, item in enumerate(optimizer)}
    given = optimizer if isinstance(optimizer, Mapping) else {"": optimizer}
    found: dict[str, Optimizer] = {}
    for name, item in given.items():
        where = f"`optimizer[{name!r}]`" if name != "" else "`optimizer`"
        inner = unwrap_optimizer(item)
        for i, one in enumerate(inner):
            _check(one, where)
            full = str(name) if len(inner) == 1 else f"{name}.{i}".lstrip(".")
            if any(one is other for other in found.values()):
                raise ValueError(f"{where} is an optimizer that was given already")
            found[full] = one
    if not found:
        raise ValueError("`optimizer` holds no optimizer")
    return found


def unwrap_optimizer(optimizer: Any) -> list[Any]:
    """Return the optimizers that a wrapper steps; what wraps nothing is returned itself.

    >>> import torch
    >>> class Wrapper:
    ...     def __init__(self, inside):
    ...         self.inside, self.param_groups = inside, inside.param_groups
    >>> inside = torch.optim.SGD([torch.zeros(1)])
    >>> unwrap_optimizer(Wrapper(inside)) == [inside]
    True
    """
    found: list[Any] = []
    waiting, seen = [optimizer], {id(optimizer)}
    while waiting:
        outer = waiting.pop(0)
        inner = [one for one in _held_by(outer) if id(one) not in seen]
        owned = set().union(*map(_trained, inner)) if inner else set()
        if inner and _trained(outer) <= owned:
            seen |= {id(one) for one in inner}
            waiting += inner
        else:
            found.append(outer)
    return found


def _held_by(outer: Any) -> list[Optimizer]:
    """Optimizers among the attributes of an object, or in one list, tuple or dict of them."""
    if isinstance(outer, nn.Module) or not hasattr(outer, "__dict__"):
        return []
    return list({id(one): one for one in _values(vars(outer)) if one is not outer}.values())


def _values(attributes: Mapping[str, object]) -> Iterator[Optimizer]:
    for value in attributes.values():
        several: Iterable[object] = (value,)
        if type(value) is dict:
            several = value.values()
        elif type(value) in (list, tuple):
            several = cast(Iterable[object], value)
        # Types are asked, never objects: those may be lazy proxies.
        yield from (cast(Optimizer, one) for one in several if issubclass(type(one), Optimizer))


def _trained(optimizer: Any) -> set[int]:
    groups = getattr(optimizer, "param_groups", None) or ()
    return {id(p) for group in groups for p in group["params"]}


def idle_message(optimizers: Mapping[str, Optimizer], idle: Collection[int], n_steps: int) -> str:
    """Say that some optimizers, by their number, never stepped while others did."""
    items = [item for i, item in enumerate(optimizers.items()) if i in idle]
    names = ", ".join(f"{name!r} ({type(optimizer).__name__})" for name, optimizer in items)
    return (
        f"{'optimizers' if len(items) > 1 else 'the optimizer'} {names} never stepped in "
        f"{n_steps:,} recorded step{'s' * (n_steps > 1)} of the others: the parameters of "
        f"{'these' if len(items) > 1 else 'this one'} are missing in the recording"
    )


_GIVE = "Give Recorder the optimizer whose step() updates the parameters"


def without_step_message(optimizers: Mapping[str, Optimizer]) -> str:
    """Say that a training is seen, by backward passes or losses, but no step."""
    return (
        f"gradscope sees a training but no step of the optimizer that it was given "
        f"({_classes(optimizers)}): nothing is recorded until its step() runs. {_GIVE}, such as "
        "the base optimizer of a wrapper"
    )


def other_step_message(optimizers: Mapping[str, Optimizer], other: Optimizer, n_steps: int) -> str:
    """Say that an optimizer which was not given steps parameters of the given ones."""
    return (
        f"after {n_steps:,} recorded step{'s' * (n_steps != 1)}, an optimizer that gradscope was "
        f"not given ({type(other).__name__}) steps parameters of the one that it was given "
        f"({_classes(optimizers)}): its steps are not recorded. {_GIVE}; where that was replaced, "
        "attach a new Recorder"
    )


def _classes(optimizers: Mapping[str, Optimizer]) -> str:
    return ", ".join(type(optimizer).__name__ for optimizer in optimizers.values())


def _check(item: Any, where: str) -> None:
    has_hooks = callable(getattr(type(item), "register_step_post_hook", None))
    if not has_hooks or not hasattr(item, "param_groups"):
        raise TypeError(f"{where} must be a torch Optimizer or a dict of them; got {type(item)}")
    if isinstance(item, Optimizer) and "_optimizer_step_pre_hooks" not in vars(item):
        raise TypeError(
            f"{where}, a {type(item).__name__}, never called Optimizer.__init__, so that its step "
            "cannot be watched; give Recorder the optimizer inside it"
        )


_MAKE_IT_FROM_THEM = (
    ", and those of the model as if nobody trained them. Make the optimizer from the parameters of "
    "the model that you record"
)


def warn_of_strangers(
    models: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer], *, stacklevel: int
) -> None:
    """Warn of optimizers that train none of the parameters of the models."""
    owned = {id(p) for model in models.values() for p in parameters_of(model)}
    is_trained = any(_trained(optimizer) & owned for optimizer in optimizers.values())
    for name, optimizer in optimizers.items():
        if owned and _trained(optimizer) and not _trained(optimizer) & owned:
            which = f"the optimizer {name!r}" if name else "the optimizer"
            own = f"{name}.param_groups.…".lstrip(".")
            advice = "" if is_trained else _MAKE_IT_FROM_THEM
            warn(
                f"{which} ({type(optimizer).__name__}) trains none of the model's parameters: its "
                f"own are recorded as `{own}`{advice}",
                stacklevel=stacklevel + 1,
            )
