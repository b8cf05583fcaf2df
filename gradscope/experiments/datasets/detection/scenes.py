"""Scenes composed of scikit-learn's digits: one to three of them on a dark ground, with boxes.

A scene has 32x32 pixels. Each digit is scaled to a square of 10 to 16 pixels and lies wholly in the
scene; centres lie in different cells of a 4x4 grid, and boxes may overlap slightly. Classes are
drawn with frequencies proportional to ``(class + 1)^-zipf``, in all splits alike. Training,
validation and test scenes are made of different digits.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch.nn.functional import interpolate

from gradscope.errors import UsageError, imports_of_extra
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.splits import Dataset, Split, channel_statistics, hold_out

NAMES = ("scenes",)
SIZE, CELL = 32, 8
GRID = SIZE // CELL
MAX_DIGITS = 3
SIDES = (10, 16)
"""Smallest and largest side of a digit in pixels."""
N_SCENES = {"train": 1000, "val": 100, "test": 300}
MAX_OVERLAP = 0.1
"""Largest share of the smaller box that another may cover."""
NOTHING = -1
"""Class of a cell without a digit's centre."""


def load(config: Config) -> Dataset:
    """Compose the scenes; all numbers follow from ``data_seed``.

    Returns
    -------
    Dataset
        Labels have shape (n, 16, 5): of each cell, row by row, the class of the digit whose centre
        it holds (-1 for none) and the box of the digit (left, top, right, bottom, in pixels).

    Raises
    ------
    UsageError
        If ``limit_train`` is more than the scenes there are.
    """
    splits = _compose(config.zipf, config.data_seed)
    train = splits["train"]
    if config.limit_train is not None:
        if config.limit_train > len(train):
            raise UsageError(
                f"`limit_train` is {config.limit_train}, but only {len(train)} are there"
            )
        train = train.take(np.arange(config.limit_train))
    mean, std = channel_statistics(train.images)
    return Dataset(train, splits["val"], splits["test"], tuple("0123456789"), mean, std)


@functools.lru_cache(maxsize=4)
def _compose(exponent: float, seed: int) -> dict[str, Split]:
    images, classes = _digits()
    rest, test = hold_out(classes, fraction=0.2)
    train, val = (rest[part] for part in hold_out(classes[rest], fraction=0.2))
    members = {"train": train, "val": val, "test": test}
    generator = np.random.default_rng(seed)
    return {
        name: _split(images[own], classes[own], N_SCENES[name], exponent, generator)
        for name, own in members.items()
    }


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the digits (n, 8, 8) from 0 to 255 and their classes."""
    with imports_of_extra("experiments"):
        from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images * (255 / 16), digits.target.astype(np.int64)


def frequencies(n_classes: int, exponent: float) -> np.ndarray:
    """Return the probability of each class, ``(class + 1)^-exponent`` over their sum.

    >>> frequencies(2, 1.0).round(3).tolist()
    [0.667, 0.333]
    """
    weights = np.arange(1, n_classes + 1, dtype=np.float64) ** -exponent
    shares: np.ndarray = weights / weights.sum()
    return shares


def _split(
    images: np.ndarray,
    classes: np.ndarray,
    n: int,
    exponent: float,
    generator: np.random.Generator,
) -> Split:
    chances = frequencies(int(classes.max()) + 1, exponent)
    members = [np.flatnonzero(classes == one) for one in range(len(chances))]
    canvas = np.zeros((n, SIZE, SIZE))
    labels = np.full((n, GRID * GRID, 5), NOTHING, dtype=np.int64)
    for scene in range(n):
        for box in _boxes(generator):
            own = int(generator.choice(len(chances), p=chances))
            drawn = scaled(images[generator.choice(members[own])], box[2] - box[0])
            place = canvas[scene, box[1] : box[3], box[0] : box[2]]
            np.maximum(place, drawn, out=place)
            labels[scene, cell_of(box)] = (own, *box)
    pixels = torch.from_numpy(np.rint(canvas).astype(np.uint8))[:, None]
    return Split(pixels.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(labels))


def _boxes(generator: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Draw the boxes of a scene: one to three, fewer where there is no room."""
    boxes: list[tuple[int, int, int, int]] = []
    for _ in range(int(generator.integers(1, MAX_DIGITS + 1))):
        for _ in range(20):
            side = int(generator.integers(SIDES[0], SIDES[1] + 1))
            left, top = (int(place) for place in generator.integers(0, SIZE - side + 1, 2))
            box = (left, top, left + side, top + side)
            is_free = all(_overlap(box, other) <= MAX_OVERLAP for other in boxes)
            if is_free and cell_of(box) not in map(cell_of, boxes):
                boxes.append(box)
                break
    return boxes


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Return the common area over that of the smaller box."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / min((a[2] - a[0]) ** 2, (b[2] - b[0]) ** 2)


def cell_of(box: tuple[int, int, int, int]) -> int:
    """Return the cell that holds the centre of a box, counted row by row.

    >>> cell_of((0, 0, 10, 10)), cell_of((20, 10, 32, 22))
    (0, 11)
    """
    column, row = (box[0] + box[2]) // (2 * CELL), (box[1] + box[3]) // (2 * CELL)
    return row * GRID + column


def scaled(image: np.ndarray, side: int) -> np.ndarray:
    """Scale a digit to ``side`` x ``side`` pixels, bilinearly."""
    tensor = torch.from_numpy(image)[None, None]
    large: np.ndarray = interpolate(tensor, size=(side, side), mode="bilinear")[0, 0].numpy()
    return large
