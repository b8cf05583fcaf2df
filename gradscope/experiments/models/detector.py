"""A small detector: a convolutional network whose last grid says what lies in each of its cells.

One digit a cell, as in J. Redmon et al., *You Only Look Once*, arXiv 1506.02640, without anchors:
a logit for "a centre lies here", the box, and a logit for each class.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from gradscope.errors import DataError
from gradscope.experiments.config import Config

NAMES = ("detector",)
CHANNELS = (16, 32, 64)
"""Channels of the stages; each halves the image, so that a cell has 8x8 pixels."""
CELL = 2 ** len(CHANNELS)
N_BOX = 5
"""Numbers of a cell beside the classes: the logit of an object, and its box."""


class Detector(nn.Module):
    """Two 3x3 convolutions with batch norm a stage, the first with stride 2, and a 1x1 head."""

    def __init__(self, channels: tuple[int, ...], n_classes: int, *, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wanted in channels:
            for stride in (2, 1):
                layers += [
                    nn.Conv2d(in_channels, wanted, 3, stride=stride, padding=1, bias=False),
                    nn.BatchNorm2d(wanted),
                    nn.ReLU(inplace=True),
                ]
                in_channels = wanted
        self.features = nn.Sequential(*layers)
        self.head = nn.Conv2d(in_channels, N_BOX + n_classes, 1)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, self.head.bias))

    def forward(self, images: Tensor) -> Tensor:
        """Return (batch, cells, 5 + classes) of images (batch, channels, height, width)."""
        return cast(Tensor, self.head(self.features(images)).flatten(2).transpose(1, 2))


def build(config: Config, *, sample_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Build a detector of ``n_outputs`` classes with ``width`` times 16, 32 and 64 channels.

    Raises
    ------
    DataError
        If cells of 8x8 pixels do not tile the images.
    """
    channels, height, width = sample_shape
    if height % CELL or width % CELL:
        raise DataError(f"detector needs sides that are multiples of {CELL}; got {sample_shape}")
    factor = 1.0 if config.width is None else config.width
    stages = tuple(max(1, round(c * factor)) for c in CHANNELS)
    return Detector(stages, n_outputs, in_channels=channels)
