"""Controlled variations of a data set: classes, labels and numbers of examples.

Each is a pure function of labels and a seeded generator. Classes are chosen and merged in training
and test data alike; fewer examples, a long tail and label noise concern the training split only, so
that validation and test ask the same question of every variant.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets import superclasses
from gradscope.experiments.datasets.splits import Dataset, Source, Split, channel_statistics


def relabel(source: Source, config: Config) -> Source:
    """Keep the classes of ``keep_classes`` and merge them as ``labels`` says.

    Raises
    ------
    UsageError
        If a class does not exist, fewer than two are left, or coarse labels are asked of other
        classes than CIFAR-100's.
    """
    if config.keep_classes:
        source = _keep(source, config.keep_classes)
    if config.labels == "fine":
        return source
    n = len(source.classes)
    if config.labels == "random":
        if not 2 <= config.merge_into <= n:
            raise UsageError(f"`merge_into` must be between 2 and {n}; got {config.merge_into}")
        groups = random_groups(n, config.merge_into, seed=config.data_seed)
        names = tuple(f"group{index}" for index in range(config.merge_into))
    else:
        groups, names = superclasses.find(source.classes, is_binary=config.labels == "binary")
    return _map(source, groups, names)


def random_groups(n_classes: int, n_groups: int, *, seed: int) -> np.ndarray:
    """Assign classes to groups at random, the groups as equal in size as can be.

    Returns
    -------
    ndarray of int, shape (n_classes,)
    """
    shuffled = np.random.default_rng(seed).permutation(n_classes)
    groups = np.empty(n_classes, dtype=np.int64)
    groups[shuffled] = np.arange(n_classes) % n_groups
    return groups


def _keep(source: Source, kept: tuple[int, ...]) -> Source:
    n = len(source.classes)
    if len(set(kept)) < 2 or max(kept) >= n:
        raise UsageError(
            f"`keep_classes` must name two or more classes of 0 to {n - 1}; got {list(kept)}"
        )
    order = sorted(set(kept))
    new_label = np.full(n, -1, dtype=np.int64)
    new_label[order] = np.arange(len(order))
    train, test = (
        split.take(np.flatnonzero(np.isin(split.labels, order)))
        for split in (source.train, source.test)
    )
    chosen = Source(train, test, source.classes)
    return _map(chosen, new_label, tuple(source.classes[index] for index in order))


def _map(source: Source, new_label: np.ndarray, names: tuple[str, ...]) -> Source:
    table = torch.from_numpy(new_label)
    train, test = (Split(s.images, table[s.labels]) for s in (source.train, source.test))
    return Source(train, test, names)


def thin(dataset: Dataset, config: Config) -> Dataset:
    """Reduce training examples, impose a long tail, and add label noise.

    Raises
    ------
    UsageError
        If a class has fewer examples than asked for.
    """
    train, n_classes = dataset.train, len(dataset.classes)
    labels = train.labels.numpy()
    counts = np.bincount(labels, minlength=n_classes)
    wanted = counts
    if config.samples_per_class is not None:
        if counts.min() < config.samples_per_class:
            raise UsageError(
                f"`samples_per_class` is {config.samples_per_class}, but class "
                f"{dataset.classes[counts.argmin()]} has {counts.min()} training examples"
            )
        wanted = np.full(n_classes, config.samples_per_class)
    if config.imbalance > 1:
        wanted = np.minimum(counts, long_tail(int(wanted.max()), n_classes, config.imbalance))
    kept = first_of_each_class(labels, wanted)
    if config.limit_train is not None:
        if config.limit_train > len(kept):
            raise UsageError(
                f"`limit_train` is {config.limit_train}, but only {len(kept)} are there"
            )
        kept = kept[: config.limit_train]
    train = train.take(kept)
    noisy = flip_labels(
        train.labels.numpy(), config.label_noise, n_classes=n_classes, seed=config.data_seed
    )
    train = Split(train.images, torch.from_numpy(noisy))
    mean, std = channel_statistics(train.images)
    return dataclasses.replace(dataset, train=train, mean=mean, std=std)


def long_tail(largest: int, n_classes: int, ratio: float) -> np.ndarray:
    """Return counts that fall exponentially from ``largest`` to ``largest / ratio``.

    >>> long_tail(100, 3, 100).tolist()
    [100, 10, 1]
    """
    exponents = np.arange(n_classes) / max(n_classes - 1, 1)
    return np.maximum(np.rint(largest * ratio**-exponents), 1).astype(np.int64)


def first_of_each_class(labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the indices of the first ``counts[c]`` examples of each class c, in order."""
    rank = np.empty(len(labels), dtype=np.int64)
    for label in range(len(counts)):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    return np.flatnonzero(rank < counts[labels])


def flip_labels(labels: np.ndarray, share: float, *, n_classes: int, seed: int) -> np.ndarray:
    """Give a share of the examples another label, each other class equally likely.

    Exactly ``round(share * n)`` labels become wrong.
    """
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(labels))[: round(share * len(labels))]
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + generator.integers(1, n_classes, len(chosen))) % n_classes
    return noisy
