"""Images in zip archives, one folder a class: ``train/<class>/*`` and ``test/<class>/*``."""

from __future__ import annotations

import functools
import io
import os
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from gradscope.errors import DataError
from gradscope.experiments.datasets.image import check_classes, read_image
from gradscope.experiments.datasets.splits import Source, Split

_Image = tuple[str, bytes]
"""Name of an image inside its archive, for messages, and its bytes."""


def load(archives: Sequence[Path], *, size: int) -> Source:
    """Load the images of one or more archives as if they had been unpacked into one folder.

    The images are decoded once in a process and then kept as bytes, one array a split, so that
    the runs of a sweep share them.

    Parameters
    ----------
    archives : sequence of Path
        Zip files. ``val`` stands in where there is no ``test``.
    size : int
        Side of the images in pixels; others are scaled and cropped as `read_image` does.

    Raises
    ------
    DataError
        If an archive is damaged, locked or a copy of another, a split is empty, the classes of
        training and test differ, or an image cannot be read.
    """
    stamps = tuple((path, path.stat().st_mtime_ns) for path in sorted(archives))
    return _load(stamps, size)


@functools.lru_cache(maxsize=2)
def _load(stamps: tuple[tuple[Path, int], ...], size: int) -> Source:
    splits: dict[str, dict[str, list[_Image]]] = {}
    origins: dict[str, Path] = {}
    for path, _ in stamps:
        _read(path, splits, origins)
    names = ", ".join(path.name for path, _ in stamps)
    train, test = splits.get("train", {}), splits.get("test") or splits.get("val") or {}
    if len(train) < 2:
        raise DataError(f"{names}: two or more folders train/<class>/ are needed; got {len(train)}")
    classes = tuple(sorted(train))
    check_classes(classes, tuple(sorted(test)), f"test/ in {names}")
    return Source(_decode(train, classes, size), _decode(test, classes, size), classes)


def _read(path: Path, splits: dict[str, dict[str, list[_Image]]], origins: dict[str, Path]) -> None:
    """Add an archive's images, as they are stored, to those of its split and class."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                parts = PurePosixPath(name).parts
                if name.endswith("/") or len(parts) < 3 or parts[-1].startswith("."):
                    continue
                split, label = parts[-3:-1]
                own = "/".join(parts[-3:])
                if own in origins:
                    raise DataError(f"{path} holds {own} again, as {origins[own]} does")
                origins[own] = path
                images = splits.setdefault(split, {}).setdefault(label, [])
                images.append((f"{path}/{name}", archive.read(name)))
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: encrypted, or compressed in a way that Python does not know.
        raise DataError(f"{path} is no zip archive, or cannot be read: {error}") from error


def _decode(split: dict[str, list[_Image]], classes: Sequence[str], size: int) -> Split:
    images = [image for label in classes for image in split[label]]
    labels = [index for index, label in enumerate(classes) for _ in split[label]]
    pixels = np.empty((len(images), 3, size, size), dtype=np.uint8)

    def decode(index: int) -> None:
        name, data = images[index]
        pixels[index] = read_image(io.BytesIO(data), size=size, name=name).transpose(2, 0, 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, range(len(images)), chunksize=500))
    return Split(torch.from_numpy(pixels), torch.tensor(labels, dtype=torch.int64))
