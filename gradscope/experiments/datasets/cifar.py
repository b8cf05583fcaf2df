"""CIFAR-10 and CIFAR-100 from their usual files, read by torchvision's own classes.

A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradscope.errors import DataError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.splits import Source, Split

NAMES = ("cifar10", "cifar100")
DEFAULT_DIR = "datasets"


def load(config: Config) -> Source:
    """Load the 50,000 training and 10,000 test images.

    Raises
    ------
    DataError
        If the files are absent or damaged and ``download`` is off, or the download fails.
    """
    train, test = _open(config, train=True), _open(config, train=False)
    return Source(_split(train), _split(test), tuple(train.classes))


def _open(config: Config, *, train: bool) -> Any:
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[config.dataset]
    folder = Path(DEFAULT_DIR if config.data_dir is None else config.data_dir)
    try:
        return kind(folder, train=train, download=config.download)
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DataError(_explain(config, folder / kind.base_folder, kind.url, error)) from error


def _explain(config: Config, folder: Path, url: str, error: Exception) -> str:
    if config.download:
        return f"{config.dataset} could not be fetched into {folder.parent}: {error}"
    return (
        f"no {config.dataset} in {folder}: its files are absent or damaged. "
        f"Fetch them with --download, or unpack {url} into {folder.parent} (--data-dir)"
    )


def _split(data: Any) -> Split:
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
    return Split(images, torch.from_numpy(np.asarray(data.targets, dtype=np.int64)))
