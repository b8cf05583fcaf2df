"""The data sets that an experiment can name; each is a module beside this one."""

from __future__ import annotations

from gradscope.errors import UsageError, unknown
from gradscope.experiments.config import Config
from gradscope.experiments.datasets import cifar, digits, folder, npz, synthetic
from gradscope.experiments.datasets.splits import Dataset, prepare
from gradscope.experiments.datasets.variations import relabel, thin

SOURCES = (digits, cifar, folder, npz, synthetic)
"""Modules with ``NAMES`` and ``load(config) -> Source``."""


def dataset_names() -> tuple[str, ...]:
    """Return the names that `load_dataset` knows."""
    return tuple(name for source in SOURCES for name in source.NAMES)


def load_dataset(config: Config) -> Dataset:
    """Load the data set that the configuration names, vary it, and hold out a validation split.

    Raises
    ------
    UsageError
        If no data set has that name or an option does not suit it.
    DataError
        If its files are missing, empty or damaged.
    """
    for source in SOURCES:
        if config.dataset in source.NAMES:
            relabelled = relabel(source.load(config), config)
            return thin(prepare(relabelled, val_fraction=config.val_fraction), config)
    raise UsageError(unknown("dataset", config.dataset, dataset_names()))
