"""Gradient sketches: 64 numbers a parameter from which the angle between any two steps follows.

A count sketch (M. Charikar et al. 2002; K. Weinberger et al., arXiv 0902.2206): entry i goes with a
random sign into bucket i mod 64. Inner products of sketches are unbiased for those of gradients,
with standard deviation of about |a||b| / 8.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from gradscope import schema
from gradscope.record.model.layers import Param


class Sketcher:
    """Sketches gradients; the signs of a parameter follow from its name and the seed alone.

    Draws from generators of its own: the training's random state is untouched. One byte an entry.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._signs: dict[str, Tensor] = {}

    @property
    def nbytes(self) -> int:
        """Memory held by the signs."""
        return sum(signs.nbytes for signs in self._signs.values())

    def sketch(self, param: Param, grad: Tensor) -> Tensor:
        """Return the sketch of a gradient: float64, (N_SKETCHES,)."""
        signed = grad.detach().reshape(-1).float() * self._signs_of(param, grad)
        padding = -signed.numel() % schema.N_SKETCHES
        padded = torch.nn.functional.pad(signed, (0, padding))
        return padded.reshape(-1, schema.N_SKETCHES).sum(dim=0, dtype=torch.float64)

    def _signs_of(self, param: Param, grad: Tensor) -> Tensor:
        signs = self._signs.get(param.name)
        if signs is None or signs.numel() != grad.numel() or signs.device != grad.device:
            generator = torch.Generator("cpu")
            generator.manual_seed(zlib.crc32(param.name.encode()) + self._seed)
            bits = torch.randint(
                0, 2, (grad.numel(),), generator=generator, dtype=torch.int8, device="cpu"
            )
            signs = self._signs[param.name] = (2 * bits - 1).to(grad.device)
        return signs
