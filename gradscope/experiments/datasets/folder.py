"""Images in folders, one folder a class: ``DIR/train/<class>/*`` and ``DIR/test/<class>/*``.

The same folders inside zip archives are read without unpacking.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets import archive
from gradscope.experiments.datasets.image import check_classes, read_image
from gradscope.experiments.datasets.splits import Source, Split

NAMES = ("folder",)


def load(config: Config) -> Source:
    """Load every image of a folder, in any format that Pillow reads, as RGB of ``image_size``.

    ``data_dir`` is a folder with ``train`` and ``test`` in it, a zip archive of such a folder, or
    a folder of such archives, which are read as one. ``val`` stands in where there is no ``test``.

    Raises
    ------
    UsageError
        If ``data_dir`` was not given.
    DataError
        If a folder is missing or empty, the classes of training and test differ, or an image
        cannot be read.
    """
    if config.data_dir is None:
        raise UsageError("dataset folder needs --data-dir DIR, with DIR/train/<class>/*")
    root = Path(config.data_dir)
    archives = [root] if root.suffix == ".zip" else sorted(root.glob("*.zip"))
    if archives and not (root / "train").is_dir():
        return archive.load(archives, size=config.image_size)
    train_folder, test_folder = root / "train", root / "test"
    if not test_folder.is_dir() and (root / "val").is_dir():
        test_folder = root / "val"
    classes = _classes(train_folder)
    check_classes(classes, _classes(test_folder), str(test_folder))
    train, test = (
        _load_split(folder, classes, config.image_size) for folder in (train_folder, test_folder)
    )
    return Source(train, test, classes)


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}; looked for {folder}/<class>/*, one folder of images a class"
        )
    names = tuple(sorted(entry.name for entry in _visible(folder) if entry.is_dir()))
    if len(names) < 2:
        found = f"only {names[0]}" if names else "none"
        raise DataError(f"{folder} must hold a folder for each of two or more classes; got {found}")
    return names


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _load_split(folder: Path, classes: Sequence[str], size: int) -> Split:
    files, labels = [], []
    for label, name in enumerate(classes):
        images = [path for path in _visible(folder / name) if path.is_file()]
        if not images:
            raise DataError(f"no images in {folder / name}")
        files += images
        labels += [label] * len(images)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pixels = np.stack(list(pool.map(partial(read_image, size=size), files)))
    return Split(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        torch.tensor(labels, dtype=torch.int64),
    )
