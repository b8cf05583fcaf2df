import numpy as np
import pytest
import torch

from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.splits import Source, Split, prepare
from gradscope.experiments.datasets.variations import flip_labels, random_groups, relabel, thin


def make_source(classes=tuple("abcdef"), per_class=40):
    """Images whose grey value is their true class."""
    labels = torch.arange(len(classes)).repeat(per_class)
    images = labels.to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
    return Source(Split(images, labels), Split(images, labels), classes)


def vary(source=None, **options):
    config = Config(**options)
    relabelled = relabel(source or make_source(), config)
    return thin(prepare(relabelled, val_fraction=0.25), config)


def true_class(split):
    return split.images[:, 0, 0, 0].long()


def counts(split):
    return torch.bincount(split.labels).tolist()


def test_classes_are_kept_in_all_splits_and_renumbered():
    dataset = vary(keep_classes=(4, 1))
    assert dataset.classes == ("b", "e")
    for split in (dataset.train, dataset.val, dataset.test):
        assert torch.equal(true_class(split), torch.tensor([1, 4])[split.labels])


def test_a_class_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match=r"two or more classes of 0 to 5; got \[1, 6\]"):
        vary(keep_classes=(1, 6))


def test_random_merges_are_even_and_follow_the_data_seed():
    dataset = vary(labels="random", merge_into=3, data_seed=1)
    assert counts(dataset.test) == [80, 80, 80]
    group_of = {
        int(c): int(g) for c, g in zip(true_class(dataset.test), dataset.test.labels, strict=True)
    }
    assert sorted(group_of.values()) == [0, 0, 1, 1, 2, 2]
    assert not np.array_equal(random_groups(6, 3, seed=1), random_groups(6, 3, seed=2))
    with pytest.raises(UsageError, match="`merge_into` must be between 2 and 6"):
        vary(labels="random", merge_into=7)


def test_coarse_labels_are_those_of_cifar_100():
    classes = ("bee", "bus", "shark", "trout", "tank")
    coarse = vary(make_source(classes), labels="coarse")
    assert coarse.classes == ("fish", "insects", "vehicles_1", "vehicles_2")
    expected = torch.tensor([1, 2, 0, 0, 3])
    assert torch.equal(coarse.test.labels, expected[true_class(coarse.test)])
    binary = vary(make_source(classes), labels="binary")
    assert binary.classes == ("living", "not living")
    expected = torch.tensor([0, 1, 0, 0, 1])
    assert torch.equal(binary.test.labels, expected[true_class(binary.test)])
    with pytest.raises(UsageError, match="for CIFAR-100's classes only; got 'a'"):
        vary(labels="coarse")


def test_samples_per_class_concern_training_only():
    dataset = vary(samples_per_class=7)
    assert counts(dataset.train) == [7] * 6
    assert counts(dataset.val) == [10] * 6
    with pytest.raises(UsageError, match="class a has 30 training examples"):
        vary(samples_per_class=31)


def test_imbalance_is_an_exponential_tail():
    dataset = vary(samples_per_class=27, imbalance=27, keep_classes=(0, 1, 2, 3))
    assert counts(dataset.train) == [27, 9, 3, 1]
    assert counts(dataset.val) == [10] * 4
    assert counts(vary(imbalance=30).train)[::5] == [30, 1]


def test_label_noise_makes_exactly_that_share_wrong_in_training_only():
    dataset = vary(label_noise=0.2)
    is_wrong = dataset.train.labels != true_class(dataset.train)
    assert is_wrong.sum() == round(0.2 * len(dataset.train))
    assert torch.equal(dataset.val.labels, true_class(dataset.val))
    assert torch.equal(dataset.test.labels, true_class(dataset.test))


def test_wrong_labels_are_uniform_over_the_other_classes():
    noisy = flip_labels(np.full(30_000, 2), 1.0, n_classes=4, seed=0)
    found = np.bincount(noisy, minlength=4)
    assert found[2] == 0
    assert np.abs(found[[0, 1, 3]] - 10_000).max() < 400


def test_limit_train_keeps_so_many_and_the_same_validation_images():
    small = vary(limit_train=10)
    assert len(small.train) == 10
    assert torch.equal(small.val.labels, vary().val.labels)
    with pytest.raises(UsageError, match="only 180 are there"):
        vary(limit_train=181)


def test_statistics_are_those_of_what_is_left():
    dataset = vary(limit_train=10)
    assert dataset.mean.item() == pytest.approx(true_class(dataset.train).double().mean() / 255)
