"""Synthetic images of known difficulty: class prototype + 1/f texture + white noise.

Natural images have amplitude spectra near 1/f; prototypes and textures share that spectrum, so that
nothing but the pattern tells the classes apart.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from gradscope.experiments.config import Config
from gradscope.experiments.datasets.splits import Source, Split

NAMES = ("synthetic",)
SIZE = 32
TRAIN_PER_CLASS, TEST_PER_CLASS = 500, 100
GREY_LEVELS_PER_STD = 40.0


def load(config: Config) -> Source:
    """Generate ``n_classes`` classes; all numbers follow from ``data_seed``.

    So many examples are generated that ``samples_per_class`` are left after validation. Several
    runs on the same images in one process, as in a sweep, share them.
    """
    wanted = config.samples_per_class or TRAIN_PER_CLASS
    n_train = max(2, int(np.ceil((wanted + 1) / (1 - config.val_fraction))))
    return _generate(config.n_classes, n_train, config.snr, config.data_seed)


@functools.lru_cache(maxsize=8)
def _generate(n_classes: int, n_train: int, snr: float, seed: int) -> Source:
    generator = np.random.default_rng(seed)
    prototypes = one_over_f(n_classes, generator)
    train, test = (
        _split(prototypes, per_class, snr, generator) for per_class in (n_train, TEST_PER_CLASS)
    )
    return Source(train, test, tuple(f"class{index}" for index in range(n_classes)))


def one_over_f(n: int, generator: np.random.Generator) -> np.ndarray:
    """Draw patterns with amplitude spectrum 1/f, mean 0 and variance 1 in every channel.

    Returns
    -------
    ndarray of float32, shape (n, 3, 32, 32)
    """
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(generator.standard_normal((n, 3, SIZE, SIZE), dtype=np.float32))
    patterns = np.fft.irfft2(spectrum / frequency, s=(SIZE, SIZE))
    patterns /= patterns.std(axis=(2, 3), keepdims=True)
    return patterns.astype(np.float32)


def _split(
    prototypes: np.ndarray, per_class: int, snr: float, generator: np.random.Generator
) -> Split:
    labels = np.tile(np.arange(len(prototypes)), per_class)
    texture = one_over_f(len(labels), generator)
    noise = generator.standard_normal(texture.shape, dtype=np.float32)
    images = mix(prototypes[labels], texture, noise, snr=snr)
    pixels = np.clip(np.rint(127.5 + GREY_LEVELS_PER_STD * images), 0, 255).astype(np.uint8)
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))


def mix(signal: np.ndarray, texture: np.ndarray, noise: np.ndarray, *, snr: float) -> np.ndarray:
    """Add patterns of variance 1 so that the sum has variance 1.

    ``(sqrt(snr) signal + (texture + noise) / sqrt(2)) / sqrt(1 + snr)``: ``snr`` is the variance of
    the prototype over that of everything else, of which texture and noise are a half each.
    """
    rest = (texture + noise) / np.sqrt(2)
    mixed: np.ndarray = (np.sqrt(snr) * signal + rest) / np.sqrt(1 + snr)
    return mixed
