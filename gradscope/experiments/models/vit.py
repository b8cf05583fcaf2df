"""A small vision transformer: patches as tokens, the blocks of `transformer`, their mean.

A. Dosovitskiy et al., *An Image is Worth 16x16 Words*, arXiv 2010.11929; patches of 4x4 pixels,
and Xavier's initial weights as in that paper's code. As in L. Beyer et al., *Better plain ViT
baselines for ImageNet-1k*, arXiv 2205.01580, positions are sines and cosines, and the mean over
tokens stands in place of a class token. No dropout.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.models.transformer import TransformerBlock

NAMES = ("vit",)
PATCH = 4


class VisionTransformer(nn.Module):
    """Patch embedding plus positions, blocks without a mask, layer norm, mean, head.

    Parameters
    ----------
    image_shape : tuple of int
        Channels, height and width of an image; the sides are multiples of 4.
    n_outputs : int
        Classes.
    depth, units, n_heads : int
        Blocks, width (a multiple of 4), heads of each attention.
    """

    positions: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_outputs: int,
        *,
        depth: int,
        units: int,
        n_heads: int,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.patches = nn.Conv2d(channels, units, PATCH, stride=PATCH)
        self.register_buffer("positions", sines(height // PATCH, width // PATCH, units))
        self.blocks = nn.Sequential(
            *(TransformerBlock(units, n_heads, is_causal=False) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(units)
        self.head = nn.Linear(units, n_outputs)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (batch, n_outputs) of images (batch, channels, height, width)."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return cast(Tensor, self.head(self.norm(self.blocks(tokens + self.positions)).mean(1)))


def sines(height: int, width: int, units: int) -> Tensor:
    """Return positions (height * width, units): sine and cosine of row and column.

    Wavelengths grow geometrically from 2 pi to 2 pi times 10,000 patches.
    """
    frequencies = 10_000.0 ** -torch.linspace(0, 1, units // 4)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [place.flatten()[:, None] * frequencies for place in (rows, columns)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def build(config: Config, *, sample_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Build ``vit`` of ``depth`` blocks of ``units`` units with ``n_heads`` heads.

    Raises
    ------
    UsageError
        If the heads do not divide the units, or 4 does not.
    DataError
        If patches of 4x4 do not tile the images.
    """
    units, depth = cast(int, config.units), cast(int, config.depth)
    if units % config.n_heads:
        raise UsageError(f"`units` must be a multiple of `n_heads`; got {units}, {config.n_heads}")
    if units % 4:
        raise UsageError(f"`units` of vit must be a multiple of 4; got {units}")
    channels, height, width = sample_shape
    if height % PATCH or width % PATCH:
        raise DataError(f"vit needs sides that are multiples of {PATCH}; got {height} x {width}")
    return VisionTransformer(
        (channels, height, width), n_outputs, depth=depth, units=units, n_heads=config.n_heads
    )
