"""What users log: numbers by name, parted into those of the step and those of an evaluation.

Files cannot hold every name: a slash becomes a dot, what is no ASCII letter, digit, dot,
dash or underscore an underscore, so that ``train/loss`` is stored as ``train.loss``. Names that
would be stored alike get a number.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gradscope import schema
from gradscope.errors import warn

_EVALUATION = ("train_", "val_", "test_", "eval_")
_OWN = frozenset({"loss", "batch_size"})
"""Names that the recorder knows; no other name is stored under them."""
_TAKEN = frozenset(schema.TRAINING.variables) - _OWN | {
    *schema.INDEXES,
    *schema.PARAM_COORDINATES,
    *schema.LAYER_COORDINATES,
}


class LoggedNames:
    """Finds a stored name of its own for each logged name of a recording.

    Parameters
    ----------
    attribute : str
        What `news` told of the recording that is resumed.

    >>> names = LoggedNames()
    >>> [names.of(name) for name in ("a/b", "my loss", "a/b")]
    ['a.b', 'my_loss', 'a.b']
    >>> names.news(), names.news()
    ('{"a.b": "a/b", "my_loss": "my loss"}', None)
    """

    def __init__(self, attribute: str = "{}") -> None:
        self._logged: dict[str, str] = json.loads(attribute)
        self._stored: dict[str, str] = {own: stored for stored, own in self._logged.items()}
        self._n_told = len(self._logged)

    def news(self) -> str | None:
        """Return the root attribute, stored to logged names, if it is another than at last."""
        if len(self._logged) == self._n_told:
            return None
        self._n_told = len(self._logged)
        return json.dumps(self._logged, ensure_ascii=False)

    def part(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Part logged values into those of ``/evaluation`` and those of ``/training``.

        Raises
        ------
        ValueError
            If a name is empty, or that of a number which the recorder measures itself, of a
            dimension or of a coordinate.
        TypeError, ValueError
            If a value is not one number.
        """
        for name, value in values.items():
            _check_number(name, value)
        values = {self.of(name): value for name, value in values.items()}
        declared = schema.EVALUATION.variables
        evaluation = {k: v for k, v in values.items() if k in declared or k.startswith(_EVALUATION)}
        training = {k: v for k, v in values.items() if k not in evaluation}
        return evaluation, training

    def of(self, name: str) -> str:
        """Return the name under which a logged number is stored; see `stored_name`."""
        if name in _OWN:
            return name
        return self._stored.get(name) or self._find(name)

    def _find(self, name: str) -> str:
        """Find a stored name that no other logged name has."""
        wanted = stored = stored_name(name)
        for number in itertools.count(2):
            if stored not in _OWN and stored not in self._logged:
                break
            stored = f"{wanted}-{number}"
        self._stored[name], self._logged[stored] = stored, name
        if stored != wanted:
            other = self._logged.get(wanted, wanted)
            warn(
                f"{name!r} would be stored under the name of {other!r}: it is stored as {stored!r}",
                stacklevel=6,
            )
        return stored


def stored_name(name: str) -> str:
    """Return the name under which a logged number is stored if no other one is.

    >>> stored_name("train/loss"), stored_name("my loss"), stored_name("5/loss")
    ('train.loss', 'my_loss', '_5.loss')
    """
    stored = re.sub(r"[^A-Za-z0-9_.-]", "_", name.replace("/", ".")).strip(".")
    if not stored.strip("._-"):
        raise ValueError(
            f"{name!r} cannot name a logged number; use ASCII letters, digits and dots"
        )
    if stored in _TAKEN:
        raise ValueError(f"`{stored}` is recorded by gradscope itself; log another name")
    return stored if re.match("[A-Za-z_]", stored) else f"_{stored}"


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"`{name}` must be one number; got a tensor of {value.numel()}")
        return
    try:
        float(value)
    except Exception:
        raise TypeError(f"`{name}` must be one number; got {type(value).__name__}") from None
