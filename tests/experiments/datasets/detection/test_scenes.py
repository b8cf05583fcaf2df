import numpy as np
import pytest
import torch

from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.detection.scenes import frequencies, scaled
from gradscope.experiments.datasets.registry import load_dataset


def test_each_box_holds_its_digit_and_the_rest_is_dark():
    split = load_dataset(Config(dataset="scenes", zipf=0.0)).val
    objects = split.labels[..., 0] >= 0
    assert objects.sum(1).min() >= 1 and objects.sum(1).max() == 3
    for image, labels in zip(split.images[:20], split.labels[:20], strict=True):
        is_lit = image[0] > 0
        inside = torch.zeros_like(is_lit)
        for cell in np.flatnonzero(labels[:, 0] >= 0):
            _, left, top, right, bottom = labels[cell].tolist()
            inside[top:bottom, left:right] = True
            assert is_lit[top:bottom, left:right].any()
            assert 10 <= right - left == bottom - top <= 16
            centre = (left + right) / 2, (top + bottom) / 2
            assert cell == int(centre[1] // 8) * 4 + int(centre[0] // 8)
        assert not (is_lit & ~inside).any()


def test_classes_are_as_frequent_as_zipfs_law_says():
    for exponent in (0.0, 1.0):
        labels = load_dataset(Config(dataset="scenes", zipf=exponent)).train.labels
        counts = np.bincount(labels[..., 0][labels[..., 0] >= 0], minlength=10)
        expected = frequencies(10, exponent)
        # Five standard deviations of a count.
        bound = 5 * np.sqrt(counts.sum() * expected * (1 - expected))
        assert (np.abs(counts - counts.sum() * expected) < bound).all()


def test_a_digit_keeps_its_grey_when_it_grows():
    assert scaled(np.full((8, 8), 255.0), 13).shape == (13, 13)
    np.testing.assert_allclose(scaled(np.full((8, 8), 255.0), 13), 255)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit_train": 10_000}, "`limit_train` is 10000, but only 1000 are there"),
        ({"label_noise": 0.1}, "`label_noise` is for images; dataset scenes is made of scenes"),
    ],
)
def test_options_that_do_not_suit_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        load_dataset(Config(dataset="scenes", **options))
