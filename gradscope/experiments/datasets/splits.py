"""Labelled images in memory, and held-out validation splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradscope.errors import DataError


@dataclass(frozen=True)
class Split:
    """Images and their labels, or sequences of symbols and those that follow.

    Parameters
    ----------
    images : Tensor, uint8, shape (n, channels, height, width) or (n, length)
    labels : Tensor, int64, shape (n,) or (n, length)
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Split:
        """Return the examples at these indices."""
        chosen = torch.from_numpy(np.ascontiguousarray(indices))
        return Split(self.images[chosen], self.labels[chosen])

    def to(self, device: torch.device) -> Split:
        """Return the split on a device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Source:
    """A data set as loaded: training and test images, and names of the classes."""

    train: Split
    test: Split
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """A data set ready for training.

    Parameters
    ----------
    train, val, test : Split
        Disjoint; ``val`` was held out of the training images.
    classes : tuple of str
        Names of the classes, in the order of the labels.
    mean, std : Tensor, float32, shape (channels,), or None
        Of the pixels of ``train``, scaled to [0, 1]; None for symbols.
    """

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    mean: Tensor | None = None
    std: Tensor | None = None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one input, such as (3, 32, 32)."""
        return tuple(self.train.images.shape[1:])


def prepare(source: Source, *, val_fraction: float) -> Dataset:
    """Hold out a validation split and measure the pixels of what is left for training.

    The split is the same in every run, so that runs of different seeds compare.

    Parameters
    ----------
    source : Source
        Training and test images.
    val_fraction : float
        Share of each class that is held out; at least one example a class.

    Raises
    ------
    DataError
        If a class has fewer than two training examples.
    """
    kept, held_out = hold_out(source.train.labels.numpy(), fraction=val_fraction)
    train = source.train.take(kept)
    mean, std = channel_statistics(train.images)
    return Dataset(train, source.train.take(held_out), source.test, source.classes, mean, std)


def hold_out(labels: np.ndarray, *, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Split indices into kept and held-out ones, class by class.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Class of each example.
    fraction : float
        Share held out of each class, at least one and never all.

    Returns
    -------
    kept, held_out : ndarray of int
        Disjoint, together all indices, each in a fixed random order.

    Raises
    ------
    DataError
        If a class has a single example.
    """
    shuffled = np.random.default_rng(0).permutation(len(labels))
    is_held_out = np.zeros(len(labels), dtype=bool)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        if count < 2:
            raise DataError(
                f"class {label} has one training example; two are needed, one for validation"
            )
        members = shuffled[labels[shuffled] == label]
        is_held_out[members[: min(max(1, round(fraction * count)), count - 1)]] = True
    return shuffled[~is_held_out[shuffled]], shuffled[is_held_out[shuffled]]


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and population standard deviation of each channel, pixels scaled to [0, 1].

    Exact: counted from the 256 values. A constant channel gets one grey level, 1/255, as its
    standard deviation, so that dividing by it is safe.

    Parameters
    ----------
    images : Tensor, uint8, shape (n, channels, height, width)

    Returns
    -------
    mean, std : Tensor, float32, shape (channels,)
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack(
        [torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)]
    ).double()
    shares = counts / counts.sum(1, keepdim=True)
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]) ** 2).sum(1)
    return mean.float(), variance.sqrt().clamp(min=1 / 255).float()
