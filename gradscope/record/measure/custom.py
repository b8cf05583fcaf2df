"""The user's own measures: one number for each parameter, from the parameter and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from gradscope.errors import is_of_signal, warn

Measure = Callable[[Tensor, Tensor, Mapping[str, Any]], Tensor | float]


class CustomMeasures:
    """Calls the user's functions; one that raises is left out from then on, with one warning.

    Parameters
    ----------
    functions : mapping of str to callable
        ``fn(param, grad, state)`` returns a tensor without axes, or a number.
    """

    def __init__(self, functions: Mapping[str, Measure]) -> None:
        self._functions = dict(functions)
        self._columns = {name: column for column, name in enumerate(functions)}

    def measure(self, out: Tensor, param: Tensor, grad: Tensor, state: Mapping[str, Any]) -> None:
        """Fill one row (len(functions),) of raw numbers; nothing waits for the device."""
        for name, function in list(self._functions.items()):
            try:
                value = function(param, grad, state)
                target = out[self._columns[name]]
                if isinstance(value, Tensor):
                    target.copy_(value.detach().reshape(()), non_blocking=True)
                else:
                    target.fill_(float(value))
            except Exception as error:
                if is_of_signal(error):
                    raise
                del self._functions[name]
                warn(
                    f"the custom measure {name!r} failed and is no longer recorded: "
                    f"{type(error).__name__}: {error}",
                    stacklevel=3,
                )
