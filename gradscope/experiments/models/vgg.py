"""VGG for CIFAR: 3x3 convolutions, five pooling layers, one linear head.

K. Simonyan, A. Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*,
arXiv 1409.1556, configurations B (13), D (16) and E (19); one linear layer in place of the three.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from gradscope.errors import DataError
from gradscope.experiments.config import Config

CHANNELS: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg13": ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg16": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}
"""Channels of the convolutions, by stage; a pooling by two ends each stage."""

NAMES = tuple(CHANNELS)


class VGG(nn.Module):
    """A VGG network for small images.

    Parameters
    ----------
    stages : tuple of tuples of int
        Channels of the convolutions of each stage.
    n_outputs : int
        Classes.
    in_channels : int
        Channels of the images.
    batch_norm : bool
        Whether batch normalisation follows each convolution.

    Notes
    -----
    Convolutions keep their biases also before batch normalisation, as the usual CIFAR code does.
    He initialisation (fan-out) of convolutions, N(0, 0.01^2) of the head, zero biases.
    """

    def __init__(
        self,
        stages: tuple[tuple[int, ...], ...],
        n_outputs: int,
        *,
        in_channels: int = 3,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in stages:
            for out_channels in channels:
                layers.append(nn.Conv2d(in_channels, out_channels, 3, padding=1))
                layers += [nn.BatchNorm2d(out_channels)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                in_channels = out_channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(in_channels, n_outputs)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (batch, n_outputs) of images (batch, channels, height, width)."""
        return cast(Tensor, self.head(self.features(images).mean((2, 3))))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def build(config: Config, *, sample_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Build ``vgg13``, ``vgg16`` or ``vgg19`` with ``width`` times the usual channels.

    Raises
    ------
    DataError
        If the images are too small for five poolings.
    """
    if min(sample_shape[1:]) < 32:
        raise DataError(f"{config.model} needs images of 32 x 32 or more; got {sample_shape[1:]}")
    width = 1.0 if config.width is None else config.width
    stages = tuple(
        tuple(max(1, round(channels * width)) for channels in stage)
        for stage in CHANNELS[config.model]
    )
    return VGG(stages, n_outputs, in_channels=sample_shape[0], batch_norm=config.batch_norm)
