"""Host numbers on the device, copied again only when they change: no step waits for them."""

from __future__ import annotations

import torch
from torch import Tensor


class OnDevice:
    """A tuple of numbers as a tensor on a device."""

    def __init__(self) -> None:
        self._key: tuple[int, ...] | None = None
        self._value: Tensor | None = None

    def get(self, key: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the numbers as a tensor."""
        if self._value is None or self._key != key or self._value.device != device:
            self._key, self._value = key, torch.tensor(key, dtype=dtype, device=device)
        return self._value


def as_scalar(number: float | Tensor | None) -> Tensor:
    """Return a number as a tensor without axes, where it is; NaN where there is none."""
    if not isinstance(number, Tensor):
        number = torch.tensor(torch.nan if number is None else number, device="cpu")
    return number.reshape(()) if number.ndim else number
