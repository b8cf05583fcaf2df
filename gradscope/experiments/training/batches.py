"""Batches of images that are stored, shuffled, augmented and normalised on the device.

Cheaper than a loader of single images, and repeatable: every random number comes from one
generator that belongs to the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from gradscope.experiments.datasets.splits import Split
from gradscope.experiments.training.processes import ALONE, Processes

Transform = Callable[[Tensor], Tensor]

PADDING = 4
"""Zero pixels around an image before the crop, as usual for CIFAR."""


def crop_and_flip(images: Tensor, *, generator: torch.Generator) -> Tensor:
    """Pad by four zero pixels, crop at a random place and mirror half of the images.

    Offsets and mirroring are drawn for each image.

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


@dataclass(frozen=True)
class Normalise:
    """Bytes to float32 with mean 0 and standard deviation 1: ``(pixel / 255 - mean) / std``.

    Parameters
    ----------
    mean, std : Tensor, float32, shape (channels,)
        Of the training split, pixels scaled to [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Return normalised images (batch, channels, height, width), channels last in memory."""
        scale = (1 / (255 * self.std)).to(images.device)[:, None, None]
        shift = (-self.mean / self.std).to(images.device)[:, None, None]
        pixels = images.to(torch.float32, memory_format=torch.channels_last)
        return torch.addcmul(shift, pixels, scale)


class TrainingStream:
    """Infinite training batches, with a new random order in every epoch.

    What is left of an epoch after its full batches is dropped, so that all steps are equal. The
    state can be saved in the middle of an epoch and continues with the very next batch.

    Parameters
    ----------
    split : Split
        Images and labels, on the device.
    normalise : callable
        `Normalise` or `as_symbols`; applied after augmentation, so that padding is black.
    batch_size : int
        Examples in a batch; the whole split where it has fewer.
    augment : bool
        Whether batches go through `crop_and_flip`.
    seed : int
        Of order and augmentation; torch's own random state is left alone.
    processes : Processes, optional
        Each draws the same batch and yields its own share of it.
    """

    def __init__(
        self,
        split: Split,
        normalise: Transform,
        *,
        batch_size: int,
        augment: bool,
        seed: int,
        processes: Processes = ALONE,
    ) -> None:
        self.split = split
        self.normalise = normalise
        self.batch_size = min(batch_size, len(split))
        self.augment = augment
        self._own = processes.share(self.batch_size)
        device = split.images.device
        self._generator = torch.Generator(device).manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64, device=device)
        self._position = 0

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the split."""
        return len(self.split) // self.batch_size

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        if self._position + self.batch_size > len(self._order):
            self._order = torch.randperm(
                len(self.split), generator=self._generator, device=self._order.device
            )
            self._position = 0
        chosen = self._order[self._position : self._position + self.batch_size]
        self._position += self.batch_size
        own = chosen[self._own]
        if self.augment:  # all draw for the whole batch, so that it does not depend on their number
            images = crop_and_flip(self.split.images[chosen], generator=self._generator)[self._own]
        else:
            images = self.split.images[own]
        return self.normalise(images), self.split.labels[own]

    def state_dict(self) -> dict[str, Any]:
        """Return what continues the stream with its next batch."""
        return {
            "generator": self._generator.get_state(),
            "order": self._order,
            "position": self._position,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of another stream over the same split."""
        self._generator.set_state(state["generator"].cpu())
        self._order = state["order"].to(self._order.device)
        self._position = state["position"]


def as_symbols(inputs: Tensor) -> Tensor:
    """Return symbols as whole numbers, which an embedding takes."""
    return inputs.long()


def in_order(
    split: Split, normalise: Transform, *, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every example of a split once, in order, without augmentation."""
    batches = zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True)
    for images, labels in batches:
        yield normalise(images), labels
