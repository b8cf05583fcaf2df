"""A small EfficientNet for small images: inverted residual blocks with squeeze and excitation.

M. Tan, Q. Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*,
arXiv 1905.11946, the blocks of table 1 (MBConv of arXiv 1801.04381 with the gates of
arXiv 1709.01507), in three stages as ResNet-20 has them. No drop path and no dropout.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from gradscope.errors import UsageError
from gradscope.experiments.config import Config

NAMES = ("efficientnet",)
CHANNELS, BLOCKS = (16, 32, 64), (2, 2, 2)
EXPANSION, REDUCTION = 4, 4
"""Channels within a block over its input's; input's channels over those of the squeezed ones."""


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate in (0, 1) that sees the mean of every channel."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.silu = nn.SiLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return inputs of shape (batch, channels, height, width), scaled."""
        means = inputs.mean((2, 3), keepdim=True)
        return inputs * torch.sigmoid(self.expand(self.silu(self.reduce(means))))


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, gate, project by 1x1; added where shapes agree."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, has_skip: bool) -> None:
        super().__init__()
        inner = EXPANSION * in_channels
        self.expand = _conv(in_channels, inner, 1)
        self.depthwise = _conv(inner, inner, 3, stride=stride, groups=inner)
        self.gate = SqueezeExcitation(inner, max(1, in_channels // REDUCTION))
        self.project = nn.Sequential(
            nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )
        self.is_added = has_skip and stride == 1 and in_channels == channels

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (batch, channels, height / stride, width / stride)."""
        outputs = self.project(self.gate(self.depthwise(self.expand(inputs))))
        return cast(Tensor, outputs + inputs if self.is_added else outputs)


class EfficientNet(nn.Module):
    """Stem of stride 2, stages of blocks, 1x1 convolution, global average, linear head."""

    def __init__(
        self,
        channels: tuple[int, ...],
        n_outputs: int,
        *,
        in_channels: int = 3,
        has_skip: bool = True,
    ) -> None:
        super().__init__()
        self.stem = _conv(in_channels, channels[0], 3, stride=2)
        blocks: list[nn.Module] = []
        before = channels[0]
        for stage, (wanted, n_blocks) in enumerate(zip(channels, BLOCKS, strict=True)):
            for index in range(n_blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(InvertedResidual(before, wanted, stride=stride, has_skip=has_skip))
                before = wanted
        self.blocks = nn.Sequential(*blocks)
        self.top = _conv(before, EXPANSION * before, 1)
        self.head = nn.Linear(EXPANSION * before, n_outputs)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (batch, n_outputs) of images (batch, channels, height, width)."""
        features = self.top(self.blocks(self.stem(images)))
        return cast(Tensor, self.head(features.mean((2, 3))))


def _conv(
    in_channels: int, channels: int, size: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return a convolution without bias, batch norm and SiLU."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            channels,
            size,
            stride=stride,
            padding=size // 2,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(channels),
        nn.SiLU(inplace=True),
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)


def build(config: Config, *, sample_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Build ``efficientnet`` with ``width`` times 16, 32 and 64 channels; ``skip`` as in a resnet.

    Raises
    ------
    UsageError
        If batch normalisation is off.
    """
    if not config.batch_norm:
        raise UsageError(f"{config.model} always has batch norm; leave out --no-batch-norm")
    width = 1.0 if config.width is None else config.width
    channels = tuple(max(1, round(c * width)) for c in CHANNELS)
    return EfficientNet(channels, n_outputs, in_channels=sample_shape[0], has_skip=config.skip)
