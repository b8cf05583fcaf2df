"""Sequences of characters from a text file, or from a random source with known optimal loss.

The source is a Markov chain whose next symbol j follows i with probability proportional to
``(j + 1)^-zipf * w_ij``, w log-normal: frequencies fall nearly as Zipf's law says, and what one
symbol tells about the next is the same at every exponent. Its entropy rate is the lowest loss that
any model can reach.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.splits import Dataset, Split

NAMES = ("text", "zipf")
TEST_FRACTION = 0.1
MAX_SYMBOLS = 256


def load(config: Config) -> Dataset:
    """Load sequences of ``context`` symbols with the symbols that follow each.

    The training part comes first, then validation, then test; they do not overlap.

    Raises
    ------
    UsageError
        If ``data_dir`` names no file for ``text``, the options do not suit sequences, or there
        are fewer than ``limit_train``.
    DataError
        If the text is too short, too rich in symbols, or no UTF-8.
    """
    if config.dataset == "text":
        symbols, names = _read_text(config)
    else:
        symbols, names = _draw(config)
    n_sequences = (len(symbols) - 1) // config.context
    n_test = max(1, round(TEST_FRACTION * n_sequences))
    n_val = max(1, round(config.val_fraction * (n_sequences - n_test)))
    n_train = n_sequences - n_test - n_val
    if n_train < 1:
        raise DataError(
            f"{len(symbols)} symbols make {n_sequences} sequences of {config.context}; three are "
            "needed, for training, validation and test"
        )
    sequences = cut(symbols, n_sequences, config.context)
    train = sequences.take(np.arange(n_train))
    if config.limit_train is not None:
        if config.limit_train > n_train:
            raise UsageError(f"`limit_train` is {config.limit_train}, but only {n_train} are there")
        train = train.take(np.random.default_rng(0).permutation(n_train)[: config.limit_train])
    return Dataset(
        train=train,
        val=sequences.take(np.arange(n_train, n_train + n_val)),
        test=sequences.take(np.arange(n_train + n_val, n_sequences)),
        classes=names,
    )


def cut(symbols: np.ndarray, n_sequences: int, context: int) -> Split:
    """Cut a series into sequences; the label of each symbol is the one that follows it."""
    used = torch.from_numpy(symbols[: n_sequences * context + 1])
    inputs, labels = used[:-1].view(n_sequences, context), used[1:].view(n_sequences, context)
    return Split(inputs.to(torch.uint8), labels.to(torch.int64))


def _read_text(config: Config) -> tuple[np.ndarray, tuple[str, ...]]:
    if config.data_dir is None:
        raise UsageError("dataset text needs --data-dir FILE")
    path = Path(config.data_dir)
    if not path.is_file():
        raise DataError(f"no file {path}; dataset text reads one text file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {error}") from error
    names = sorted(set(text))
    if not 2 <= len(names) <= MAX_SYMBOLS:
        raise DataError(f"{path} has {len(names)} different characters; 2 to {MAX_SYMBOLS} work")
    index = {name: number for number, name in enumerate(names)}
    return np.array([index[character] for character in text], dtype=np.int64), tuple(names)


def _draw(config: Config) -> tuple[np.ndarray, tuple[str, ...]]:
    if config.n_classes > MAX_SYMBOLS:
        raise UsageError(f"`n_classes` of zipf must be <= {MAX_SYMBOLS}; got {config.n_classes}")
    generator = np.random.default_rng(config.data_seed)
    transition = transitions(config.n_classes, config.zipf, generator)
    symbols = walk(transition, config.n_tokens, generator)
    return symbols, tuple(str(symbol) for symbol in range(config.n_classes))


def transitions(n: int, exponent: float, generator: np.random.Generator) -> np.ndarray:
    """Draw the probabilities of the next symbol (to) given one (from).

    Returns
    -------
    ndarray of float64, shape (from, to)
        Rows sum to 1.
    """
    weights = np.arange(1, n + 1) ** -exponent * np.exp(generator.standard_normal((n, n)))
    rows: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return rows


def walk(transition: np.ndarray, length: int, generator: np.random.Generator) -> np.ndarray:
    """Walk along the chain, from symbol 0."""
    bounds = transition.cumsum(axis=1)
    bounds[:, -1] = 1.0
    symbols = np.empty(length, dtype=np.int64)
    symbol = 0
    for position, chance in enumerate(generator.random(length)):
        symbol = int(bounds[symbol].searchsorted(chance, side="right"))
        symbols[position] = symbol
    return symbols
