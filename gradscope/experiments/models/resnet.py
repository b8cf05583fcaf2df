"""Residual networks for small images, and the same networks without skip connections.

K. He, X. Zhang, S. Ren, J. Sun, *Deep Residual Learning for Image Recognition*, arXiv 1512.03385:
ResNet-20 and -56 as in section 4.2, with shortcuts of type A (no parameters), ResNet-14 by the same
rule with two blocks in a stage, and ResNet-18 with the 3x3 stem usual for CIFAR and shortcuts of
type B (1x1 convolutions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import pad

from gradscope.errors import UsageError
from gradscope.experiments.config import Config


@dataclass(frozen=True)
class Shape:
    """Channels of the stages, residual blocks in each, and whether shortcuts have parameters."""

    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    has_projection: bool


SHAPES = {
    "resnet18": Shape((64, 128, 256, 512), (2, 2, 2, 2), has_projection=True),
    "resnet14": Shape((16, 32, 64), (2, 2, 2), has_projection=False),
    "resnet20": Shape((16, 32, 64), (3, 3, 3), has_projection=False),
    "resnet56": Shape((16, 32, 64), (9, 9, 9), has_projection=False),
}
NAMES = tuple(SHAPES)


class PaddedShortcut(nn.Module):
    """Shortcut of type A: take every second pixel and fill new channels with zeros."""

    def __init__(self, n_new: int) -> None:
        super().__init__()
        self.n_new = n_new

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (batch, channels + n_new, height / 2, width / 2)."""
        before = self.n_new // 2
        return pad(inputs[:, :, ::2, ::2], (0, 0, 0, 0, before, self.n_new - before))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; the input is added unless there is no skip."""

    def __init__(
        self, in_channels: int, channels: int, *, stride: int, has_skip: bool, has_projection: bool
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, stride=stride)
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = _conv(channels, channels)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.shortcut: nn.Module | None = None
        if not has_skip:
            return
        if in_channels == channels and stride == 1:
            self.shortcut = nn.Identity()
        elif has_projection:
            projection = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))
        else:
            self.shortcut = PaddedShortcut(channels - in_channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (batch, channels, height / stride, width / stride)."""
        outputs = self.relu1(self.norm1(self.conv1(inputs)))
        outputs = self.norm2(self.conv2(outputs))
        if self.shortcut is not None:
            outputs = outputs + self.shortcut(inputs)
        return cast(Tensor, self.relu2(outputs))


class ResNet(nn.Module):
    """A residual network: stem, stages of blocks, global average, one linear head."""

    def __init__(
        self, shape: Shape, n_outputs: int, *, in_channels: int = 3, has_skip: bool = True
    ) -> None:
        super().__init__()
        channels = shape.channels[0]
        self.stem = nn.Sequential(
            _conv(in_channels, channels), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        blocks: list[nn.Module] = []
        for stage, (wanted, n_blocks) in enumerate(zip(shape.channels, shape.blocks, strict=True)):
            for index in range(n_blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(
                    ResidualBlock(
                        channels,
                        wanted,
                        stride=stride,
                        has_skip=has_skip,
                        has_projection=shape.has_projection,
                    )
                )
                channels = wanted
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, n_outputs)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (batch, n_outputs) of images (batch, channels, height, width)."""
        return cast(Tensor, self.head(self.blocks(self.stem(images)).mean((2, 3))))


def _conv(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)


def build(config: Config, *, sample_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Build one of ``SHAPES`` with ``width`` times the usual channels.

    Raises
    ------
    UsageError
        If batch normalisation is off.
    """
    if not config.batch_norm:
        raise UsageError(f"{config.model} always has batch norm; leave out --no-batch-norm")
    shape = SHAPES[config.model]
    width = 1.0 if config.width is None else config.width
    channels = tuple(max(1, round(c * width)) for c in shape.channels)
    scaled = Shape(channels, shape.blocks, shape.has_projection)
    return ResNet(scaled, n_outputs, in_channels=sample_shape[0], has_skip=config.skip)
