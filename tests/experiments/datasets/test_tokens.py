import numpy as np
import pytest
import torch

from gradscope.errors import DataError, UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.registry import load_dataset
from gradscope.experiments.datasets.tokens import transitions, walk


def load(**options):
    return load_dataset(Config(**{"context": 8, "n_classes": 6, "n_tokens": 2000, **options}))


def test_labels_are_the_symbols_that_follow_and_splits_do_not_overlap():
    dataset = load(dataset="zipf")
    splits = dataset.train, dataset.val, dataset.test
    n = [len(split) for split in splits]
    assert sum(n) == (2000 - 1) // 8
    inputs = torch.cat([split.images.flatten() for split in splits])
    labels = torch.cat([split.labels.flatten() for split in splits])
    assert torch.equal(inputs[1:].long(), labels[:-1])


def test_the_chain_walks_with_its_own_probabilities():
    generator = np.random.default_rng(0)
    transition = transitions(4, 1.0, generator)
    assert transition.sum(axis=1) == pytest.approx(1)
    symbols = walk(transition, 60_000, generator)
    counts = np.zeros((4, 4))
    np.add.at(counts, (symbols[:-1], symbols[1:]), 1)
    found = counts / counts.sum(axis=1, keepdims=True)
    assert np.abs(found - transition).max() < 0.02


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_frequencies_fall_as_zipfs_law_says(exponent):
    generator = np.random.default_rng(1)
    symbols = walk(transitions(50, exponent, generator), 40_000, generator)
    counts = np.bincount(symbols, minlength=50)[:12]
    slope = np.polyfit(np.log(np.arange(1, 13)), np.log(counts), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.25)


def test_a_text_becomes_symbols(tmp_path):
    path = tmp_path / "verse.txt"
    path.write_text("so über long " * 30, encoding="utf-8")
    dataset = load(dataset="text", data_dir=str(path))
    assert dataset.classes == tuple(sorted(set("so über long ")))
    first = "".join(dataset.classes[symbol] for symbol in dataset.train.images[0])
    assert first == "so über "
    assert dataset.train.labels.max() < len(dataset.classes)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"dataset": "text"}, UsageError, "needs --data-dir FILE"),
        ({"dataset": "text", "data_dir": "absent.txt"}, DataError, "no file absent.txt"),
        ({"dataset": "zipf", "n_tokens": 100, "context": 60}, DataError, "three are needed"),
        ({"dataset": "zipf", "n_classes": 300}, UsageError, "`n_classes` of zipf must be"),
        ({"dataset": "zipf", "limit_train": 500}, UsageError, "`limit_train` is 500, but only"),
        ({"dataset": "zipf", "label_noise": 0.1}, UsageError, "`label_noise` is for images"),
    ],
)
def test_what_is_wrong_is_named(options, kind, message):
    with pytest.raises(kind, match=message):
        load(**options)


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "noise.bin"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"noise\.bin is no UTF-8 text"):
        load(dataset="text", data_dir=str(path))
