"""Registry of data sets; each is a module in this package."""

from __future__ import annotations

from gradscope.errors import UsageError, unknown
from gradscope.experiments.config import Config
from gradscope.experiments.datasets import cifar, digits, folder, npz, synthetic, tokens
from gradscope.experiments.datasets.detection import scenes
from gradscope.experiments.datasets.splits import Dataset, prepare
from gradscope.experiments.datasets.variations import relabel, thin

SOURCES = (digits, cifar, folder, npz, synthetic)
"""Modules with ``NAMES`` and ``load(config) -> Source``."""
WHOLE = (tokens, scenes)
"""Modules with ``NAMES`` and ``load(config) -> Dataset``: they make their own splits."""


def dataset_names() -> tuple[str, ...]:
    """Return the names that `load_dataset` knows."""
    return tuple(name for source in (*SOURCES, *WHOLE) for name in source.NAMES)


def load_dataset(config: Config) -> Dataset:
    """Load the data set that the configuration names, vary it, and hold out a validation split.

    Raises
    ------
    UsageError
        If no data set has that name or an option does not suit it.
    DataError
        If its files are missing, empty or damaged.
    """
    for whole in WHOLE:
        if config.dataset in whole.NAMES:
            _refuse_variations(config)
            dataset: Dataset = whole.load(config)
            return dataset
    for source in SOURCES:
        if config.dataset in source.NAMES:
            relabelled = relabel(source.load(config), config)
            return thin(prepare(relabelled, val_fraction=config.val_fraction), config)
    raise UsageError(unknown("dataset", config.dataset, dataset_names()))


def _refuse_variations(config: Config) -> None:
    """Refuse what chooses, merges, thins or falsifies classes of single images."""
    for name in ("keep_classes", "labels", "samples_per_class", "imbalance", "label_noise"):
        if getattr(config, name) != getattr(Config, name):
            kind = "symbols" if config.dataset in tokens.NAMES else "scenes"
            raise UsageError(f"`{name}` is for images; dataset {config.dataset} is made of {kind}")
