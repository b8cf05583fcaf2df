"""The result of every estimator and test: an effect with its interval, p-value, n and method.

A result is a frozen dataclass. ``print(result)`` prints a table, and ``result.as_dict()`` returns
numbers and strings that can be written as JSON.

>>> print(Result(method="a test", quantity="slope", estimate=0.25, low=0.125, high=0.5,
...              confidence=0.95, p_value=0.0123, alternative="two-sided", n=12))
a test
  effect      slope = 0.25
  interval    95 %: [0.125, 0.5]
  p           0.0123 (two-sided)
  n           12
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """An estimate with its uncertainty.

    Parameters
    ----------
    method : str
        Name of the estimator or test.
    quantity : str
        Description of ``estimate``.
    estimate : float
        The effect, in the unit of the data.
    low, high : float, default nan
        Bounds of the confidence interval. They are infinite if the data do not bound the effect,
        and nan if the method gives no interval.
    confidence : float, default nan
        Nominal coverage of the interval, in (0, 1).
    p_value : float, default nan
        Probability, under the null hypothesis, of a statistic at least as extreme.
    alternative : str, default ""
        ``"two-sided"``, ``"greater"`` or ``"less"``; empty if nothing is tested.
    n : int
        Number of independent units (or, for a time series, of values).
    """

    method: str
    quantity: str
    estimate: float
    n: int
    low: float = math.nan
    high: float = math.nan
    confidence: float = math.nan
    p_value: float = math.nan
    alternative: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return all fields for JSON: nan becomes None, infinities become "inf" and "-inf"."""
        return {f.name: as_json(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def __str__(self) -> str:
        """Return the result as a table."""
        rows = [("effect", f"{self.quantity} = {self.estimate:.4g}")]
        if not math.isnan(self.confidence):
            interval = f"{100 * self.confidence:g} %: [{self.low:.4g}, {self.high:.4g}]"
            rows.append(("interval", interval))
        if not math.isnan(self.p_value):
            rows.append(("p", f"{self.p_value:.3g} ({self.alternative})"))
        rows.append(("n", str(self.n)))
        return table(self.method, rows + self._more_rows())

    def _more_rows(self) -> list[tuple[str, str]]:
        """Return rows for the fields that a subclass adds."""
        known = {f.name for f in dataclasses.fields(Result)}
        extra = [f.name for f in dataclasses.fields(self) if f.name not in known]
        return [(name.replace("_", " "), shown(getattr(self, name))) for name in extra]


def table(title: str, rows: list[tuple[str, str]]) -> str:
    """Format rows of (name, text) under a title, with the names aligned in one column.

    >>> print(table("title", [("n", "3"), ("a long name", "4")]))
    title
      n           3
      a long name 4
    """
    width = max([11, *(len(name) for name, _ in rows)])
    return "\n".join([title, *(f"  {name:<{width}} {text}" for name, text in rows)])


def shown(value: object) -> str:
    """Format a value for a table: four digits of a number, the shape of a large array.

    >>> shown(0.123456), shown(np.zeros((2, 3))), shown("text")
    ('0.1235', 'array of shape (2, 3)', 'text')
    """
    if isinstance(value, np.ndarray) and value.size > 12:
        return f"array of shape {value.shape}"
    if isinstance(value, np.ndarray) and value.ndim > 1:
        return f"array of shape {value.shape}"
    if isinstance(value, np.ndarray | tuple):
        return ", ".join(shown(v) for v in value)
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value)


def as_json(value: Any) -> Any:
    """Convert a value to types that JSON supports.

    >>> as_json(np.array([1.0, np.nan, np.inf])), as_json(np.int64(3))
    ([1.0, None, 'inf'], 3)
    """
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist())
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else f"{value:g}"
    return value
