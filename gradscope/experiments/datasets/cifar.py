"""CIFAR-10 and CIFAR-100 from their usual files, or from zip archives of images.

The usual files are read by torchvision's own classes. Archives are named after the data set, such
as ``cifar10-train.zip``, and hold ``train/<class>/*`` and ``test/<class>/*``.

A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradscope.errors import DataError, imports_of_extra
from gradscope.experiments.config import CIFAR, Config
from gradscope.experiments.datasets import archive
from gradscope.experiments.datasets.splits import Source, Split

NAMES = CIFAR
DEFAULT_DIR = "datasets"


def load(config: Config) -> Source:
    """Load the 50,000 training and 10,000 test images.

    Archives ``<dataset>-*.zip`` in ``data_dir`` come before torchvision's files.

    Raises
    ------
    DataError
        If the files are absent or damaged and ``download`` is off, the download fails, or archives
        lack images of some classes.
    """
    archives = sorted(_folder(config).glob(f"{config.dataset}-*.zip"))
    if archives:
        source = archive.load(archives, size=32)
        _check_balance(source, ", ".join(path.name for path in archives))
        return source
    train, test = _open(config, train=True), _open(config, train=False)
    return Source(_split(train), _split(test), tuple(train.classes))


def _check_balance(source: Source, archives: str) -> None:
    """All classes of CIFAR have as many images."""
    for name, split in (("train", source.train), ("test", source.test)):
        counts = torch.bincount(split.labels, minlength=len(source.classes)).tolist()
        if min(counts) < max(counts):
            least = source.classes[counts.index(min(counts))]
            raise DataError(
                f"{archives}: {name}/{least} has {min(counts)} images, other classes have up to "
                f"{max(counts)}; those of CIFAR have as many each, so an archive is incomplete"
            )


def _folder(config: Config) -> Path:
    return Path(DEFAULT_DIR if config.data_dir is None else config.data_dir)


def _open(config: Config, *, train: bool) -> Any:
    with imports_of_extra("experiments"):
        from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[config.dataset]
    folder = _folder(config)
    try:
        return kind(folder, train=train, download=config.download)
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DataError(_explain(config, folder / kind.base_folder, kind.url, error)) from error


def _explain(config: Config, folder: Path, url: str, error: Exception) -> str:
    if config.download:
        return f"{config.dataset} could not be fetched into {folder.parent}: {error}"
    return (
        f"no {config.dataset} in {folder}: its files are absent or damaged. "
        f"Fetch them with --download, unpack {url} into {folder.parent} (--data-dir), or put "
        f"{config.dataset}-*.zip there"
    )


def _split(data: Any) -> Split:
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return Split(images, torch.from_numpy(np.asarray(data.targets, dtype=np.int64)))
