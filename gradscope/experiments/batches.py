"""Batches from images that lie on the device as bytes: shuffled, augmented, normalised there.

Cheaper than a loader of single images, and repeatable: every random number comes from one
generator that belongs to the run.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gradscope.experiments.datasets.splits import Split

PADDING = 4
"""Zero pixels around an image before the crop, as usual for CIFAR."""


def crop_and_flip(images: Tensor, *, generator: torch.Generator) -> Tensor:
    """Pad by four zero pixels, crop at a random place and mirror half of the images.

    Each image has its own offsets and its own coin.

    Parameters
    ----------
    images : Tensor, shape (batch, channels, height, width)
    generator : torch.Generator
        On the device of the images.

    Returns
    -------
    Tensor, same shape and dtype
    """
    n, _, height, width = images.shape
    device = images.device
    shifts = torch.randint(2 * PADDING + 1, (2, n, 1), generator=generator, device=device)
    is_flipped = torch.randint(2, (n, 1), generator=generator, device=device).bool()
    rows = torch.arange(height, device=device) + shifts[0]
    columns = torch.arange(width, device=device)
    columns = torch.where(is_flipped, columns.flip(0), columns) + shifts[1]
    padded = torch.nn.functional.pad(images, (PADDING,) * 4)
    examples = torch.arange(n, device=device)[:, None, None]
    picked = padded.permute(0, 2, 3, 1)[examples, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


class Batches:
    """Batches of one split.

    Parameters
    ----------
    split : Split
        Images and labels, on the device.
    mean, std : Tensor, shape (channels,)
        Pixels in [0, 1] become ``(pixel - mean) / std``.
    batch_size : int
        Examples in a batch; the whole split where it has fewer.
    augment : bool
        Whether training batches are cropped and flipped.
    generator : torch.Generator, optional
        Source of order and augmentation; needed for `endless`.
    """

    def __init__(
        self,
        split: Split,
        *,
        mean: Tensor,
        std: Tensor,
        batch_size: int,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        self.split = split
        self.batch_size = min(batch_size, len(split))
        self.augment = augment
        self.generator = generator
        device = split.images.device
        self._scale = (1 / (255 * std)).to(device)[:, None, None]
        self._shift = (-mean / std).to(device)[:, None, None]

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the split; what is left over is dropped, so that all steps are equal."""
        return len(self.split) // self.batch_size

    def endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield training batches epoch after epoch, each in a new random order."""
        if self.generator is None:
            raise ValueError("training batches need a `generator`; got None")
        device = self.split.images.device
        while True:
            order = torch.randperm(len(self.split), generator=self.generator, device=device)
            for chosen in order.split(self.batch_size)[: self.steps_per_epoch]:
                images = self.split.images[chosen]
                if self.augment:
                    images = crop_and_flip(images, generator=self.generator)
                yield self.normalise(images), self.split.labels[chosen]

    def once(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every example once, in order, without augmentation."""
        for images, labels in zip(
            self.split.images.split(self.batch_size),
            self.split.labels.split(self.batch_size),
            strict=True,
        ):
            yield self.normalise(images), labels

    def normalise(self, images: Tensor) -> Tensor:
        """Return float32 images with the training split's mean 0 and standard deviation 1."""
        return torch.addcmul(self._shift, images.float(), self._scale)
