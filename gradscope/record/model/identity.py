"""Users' objects compared by identity.

Optimizers, modules and their like may define ``__eq__``, ``__hash__`` and ``__bool__``: what these
return is theirs, and what they raise must not reach a training. So objects of a user are never
compared by ``==`` or ``in``, never tested for truth, and never keys of a dictionary.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


def is_among(thing: object, things: Iterable[object]) -> bool:
    """Whether an object itself, not one that equals it, is among others."""
    return any(thing is other for other in things)


class WeakIdentityMap(Generic[Value]):
    """Values by object; an entry goes when its object does.

    >>> class Odd:
    ...     __hash__ = None
    >>> first, second, known = Odd(), Odd(), WeakIdentityMap()
    >>> known[first] = 1
    >>> first in known, second in known, known.get(second, 0)
    (True, False, 0)
    >>> del first
    >>> list(known.items())
    []
    """

    def __init__(self) -> None:
        self._items: dict[int, tuple[weakref.ref[Any], Value]] = {}

    def __setitem__(self, thing: object, value: Value) -> None:
        key, items = id(thing), self._items
        items[key] = weakref.ref(thing, lambda _: items.pop(key, None)), value

    def __contains__(self, thing: object) -> bool:
        return id(thing) in self._items

    def get(self, thing: object, default: Any = None) -> Any:
        """Return the value of an object; the default without."""
        found = self._items.get(id(thing))
        return default if found is None else found[1]

    def pop(self, thing: object) -> None:
        """Forget an object."""
        self._items.pop(id(thing), None)

    def clear(self) -> None:
        """Forget all."""
        self._items.clear()

    def items(self) -> Iterator[tuple[Any, Value]]:
        """Iterate over the objects that live, and their values."""
        for ref, value in list(self._items.values()):
            thing = ref()
            if thing is not None:
                yield thing, value
