"""``tree.gradscope``: names alone, exact unions, pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gradscope.integrations.xarray  # noqa: F401  # gives trees their accessor
from gradscope.errors import UsageError
from tests.helpers import synthetic_recording
from tests.planted import planted_runs


def test_quantities_by_name_alone():
    tree = synthetic_recording(5)
    assert {"grad_norm", "loss", "update_ratio"} <= set(tree.gradscope.quantities())
    assert tree.gradscope["update_ratio"].identical(tree["updates/update_ratio"])
    with pytest.raises(UsageError, match="unknown quantity 'grad_nrom'; did you mean 'grad_norm'"):
        tree.gradscope["grad_nrom"]


def test_layers_unite_exactly():
    tree = synthetic_recording(5)
    united = tree.gradscope.aggregate("layer")["gradients/grad_norm"].sel(layer="classifier")
    own = tree["gradients/grad_norm"].astype(float)
    own = own.sel(param=["classifier.weight", "classifier.bias"])
    np.testing.assert_allclose(united.values, np.sqrt((own**2).sum("param")), rtol=1e-12)
    assert tree.gradscope.summary()["attributes"]["model_name"] == "plain"


def test_plots():
    figure = synthetic_recording(20).gradscope.plot("heatmap", "update_ratio", layers="features")
    assert figure.axes[0].get_ylabel() or figure.axes[1].get_ylabel()


def test_nothing_is_registered_before_the_import():
    program = (
        "import xarray, gradscope.store.read.recording\n"
        "assert not hasattr(xarray.DataTree, 'gradscope')\n"
        "import gradscope.integrations.xarray\n"
        "assert hasattr(xarray.DataTree, 'gradscope')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_compares_over_a_setting():
    tree = planted_runs(factor=10.0, noise=0.05)
    comparison = tree.gradscope.compare(over="alpha")
    assert comparison.maps[0].first.layer == "layers.2.weight"
    assert "first outside the seed band: step 10" in str(comparison)
    figure = tree.gradscope.plot_comparison(comparison, width=120)
    assert figure.get_figwidth() == pytest.approx(120 / 25.4)
    with pytest.raises(UsageError, match="do not differ in 'lr'; they differ in: alpha, seed"):
        tree.gradscope.compare(over="lr")
