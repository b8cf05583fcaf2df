import numpy as np
import pytest
import torch

from gradscope.experiments.config import Config
from gradscope.experiments.datasets.registry import load_dataset
from gradscope.experiments.datasets.synthetic import mix, one_over_f


def load(**options):
    return load_dataset(Config(dataset="synthetic", n_classes=4, samples_per_class=60, **options))


def test_counts_are_as_asked():
    dataset = load()
    assert torch.bincount(dataset.train.labels).tolist() == [60] * 4
    assert torch.bincount(dataset.test.labels).tolist() == [100] * 4
    assert dataset.train.images.shape[1:] == (3, 32, 32)


def test_power_falls_with_the_square_of_frequency():
    patterns = one_over_f(400, np.random.default_rng(0))
    assert np.allclose(patterns.std(axis=(2, 3)), 1, atol=1e-5)
    power = (np.abs(np.fft.rfft2(patterns)) ** 2).mean((0, 1))[0, 1:16]
    slope = np.polyfit(np.log(np.arange(1, 16)), np.log(power), 1)[0]
    assert slope == pytest.approx(-2, abs=0.05)


def test_the_signal_to_noise_ratio_is_a_ratio_of_variances():
    generator = np.random.default_rng(0)
    signal, texture, noise = generator.standard_normal((3, 200_000))
    mixed = mix(signal, texture, noise, snr=0.25)
    explained = np.cov(mixed, signal)[0, 1] ** 2
    assert mixed.var() == pytest.approx(1, rel=0.02)
    assert explained / (mixed.var() - explained) == pytest.approx(0.25, rel=0.05)


def nearest_prototype_accuracy(dataset):
    """Accuracy of the class whose mean training image is nearest in angle."""
    train, test = (s.images.flatten(1).double() - 127.5 for s in (dataset.train, dataset.test))
    means = torch.stack([train[dataset.train.labels == c].mean(0) for c in range(4)])
    return ((test @ means.T).argmax(1) == dataset.test.labels).double().mean()


def test_signal_makes_classes_learnable_and_none_leaves_chance():
    assert nearest_prototype_accuracy(load(snr=1.0)) > 0.95
    assert nearest_prototype_accuracy(load(snr=0.0)) < 0.35


def test_everything_follows_from_the_data_seed():
    assert torch.equal(load().train.images, load(seed=3).train.images)
    assert not torch.equal(load().train.images, load(data_seed=3).train.images)
