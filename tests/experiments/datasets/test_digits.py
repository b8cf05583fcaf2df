import torch

from gradscope.experiments.config import Config
from gradscope.experiments.datasets.registry import load_dataset


def test_digits_are_split_in_three_and_upsampled():
    dataset = load_dataset(Config())
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == 1797
    assert dataset.train.images.shape[1:] == (3, 32, 32)
    assert dataset.train.images.dtype == torch.uint8
    assert len(dataset.test) > 300
    for split in (dataset.train, dataset.val, dataset.test):
        assert sorted(set(split.labels.tolist())) == list(range(10))
    assert dataset.train.images.max() > 250
