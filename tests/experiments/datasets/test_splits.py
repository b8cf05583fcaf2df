import numpy as np
import pytest
import torch

from gradscope.errors import DataError
from gradscope.experiments.datasets.splits import (
    Source,
    Split,
    channel_statistics,
    hold_out,
    prepare,
)


def test_hold_out_takes_a_share_of_each_class_and_nothing_twice():
    labels = np.repeat([0, 1, 2], [100, 50, 2])
    kept, held_out = hold_out(labels, fraction=0.1)
    assert sorted([*kept, *held_out]) == list(range(152))
    assert np.bincount(labels[held_out]).tolist() == [10, 5, 1]


def test_hold_out_refuses_a_class_of_one():
    with pytest.raises(DataError, match="class 1 has one training example"):
        hold_out(np.array([0, 0, 1]), fraction=0.1)


def test_channel_statistics_equal_numpys():
    images = torch.randint(256, (7, 3, 5, 4), dtype=torch.uint8)
    mean, std = channel_statistics(images)
    pixels = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-6)


def test_a_constant_channel_can_be_divided_by():
    _, std = channel_statistics(torch.full((2, 1, 3, 3), 9, dtype=torch.uint8))
    assert std.item() == pytest.approx(1 / 255)


def source(n=40):
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    split = Split(images.contiguous(), torch.arange(n) % 4)
    return Source(split, split.take(np.arange(4)), tuple("abcd"))


def test_statistics_come_from_the_training_split_only():
    dataset = prepare(source(), val_fraction=0.25)
    assert not set(dataset.train.images[:, 0, 0, 0].tolist()) & set(
        dataset.val.images[:, 0, 0, 0].tolist()
    )
    mean, _ = channel_statistics(dataset.train.images)
    assert torch.equal(dataset.mean, mean)
