"""The instrument checks pass on what was recorded well, and see what was not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from analyses.measures import self_checks
from analyses.measures.self_checks import exact_error, largest_cosine, law_deviation, law_excess
from gradscope.optim.smes import SMES
from gradscope.record.recorder import Recorder
from gradscope.store.read.recording import open_recording


@pytest.mark.parametrize("alpha", [-0.3, 0.25])
def test_recorded_updates_are_the_recomputed_ones(alpha):
    assert exact_error(alpha, n_steps=8) < self_checks.EXACT_TOLERANCE


def test_another_epsilon_is_seen(monkeypatch):
    """The check has teeth: with eps of 1e-5 in the reference alone, updates differ."""
    recompute = self_checks._recompute

    def with_other_eps(*arguments):
        monkeypatch.setattr(self_checks, "EPS", 1e-5)
        try:
            return recompute(*arguments)
        finally:
            monkeypatch.setattr(self_checks, "EPS", 1e-8)

    monkeypatch.setattr(self_checks, "_recompute", with_other_eps)
    assert exact_error(0.5, n_steps=4) > self_checks.EXACT_TOLERANCE


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Forty steps of a small convolutional net with batch norm at alpha 0.25."""
    path = tmp_path_factory.mktemp("law") / "run.h5"
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 5),
    )
    optimizer = SMES(model.parameters(), lr=0.01, alpha=0.25)
    with Recorder(model, optimizer, path):
        for _ in range(40):
            optimizer.zero_grad()
            images, labels = torch.randn(32, 3, 8, 8), torch.randint(0, 5, (32,))
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return path


def test_the_law_holds_and_a_wrong_learning_rate_breaks_it(recording):
    with open_recording(recording) as tree:
        assert law_excess(tree) < self_checks.LAW_TOLERANCE
        wrong = tree.copy()
        wrong["training"] = tree["training"].to_dataset().assign(lr=tree["training/lr"] * 1.5)
        # ln 1.5 = 0.41 nat off.
        assert law_excess(wrong) > self_checks.LAW_TOLERANCE
        assert law_deviation(tree)["deviation"].dims == ("step", "param")


def test_gradients_before_batch_norm_are_orthogonal(recording):
    with open_recording(recording) as tree:
        assert largest_cosine(tree) < self_checks.COSINE_TOLERANCE
        assert np.isnan(largest_cosine(tree.map_over_datasets(_no_norms)))


def _no_norms(dataset: xr.Dataset) -> xr.Dataset:
    if "kind" not in dataset.coords:
        return dataset
    return dataset.assign_coords(layer_type=("param", ["Linear"] * dataset.sizes["param"]))


@pytest.mark.parametrize("alpha", [-0.2, 0.25])
def test_the_sampling_error_is_that_of_independent_entries(alpha):
    rng = np.random.default_rng(0)
    octaves = rng.normal(-20, 1, size=400).round()
    v = 2.0 ** (octaves + 0.5)
    m_sq = v * rng.normal(size=(4000, 400)) ** 2
    w = v ** (1 - 2 * alpha)
    recorded = (m_sq * v ** (-2 * alpha)).sum(axis=1)
    predicted = m_sq.sum(axis=1) / v.sum() * w.sum()
    scatter = (np.log(recorded / predicted) / 2).std()
    bins = np.arange(-149, 32)
    counts = xr.DataArray([(octaves == b).sum() for b in bins], coords={"moment_bin": bins})
    assert float(self_checks._sampling_error(counts, alpha)) == pytest.approx(scatter, rel=0.1)
