"""Architecture transfer: planted orders and slopes are found, recordings become tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from analyses.questions.transfer.answer import answer
from analyses.questions.transfer.measure import TRANSFER, measure, site_slopes
from analyses.study.run_records import find_runs
from analyses.study.study import SPECS
from gradscope.experiments.sweep.engine import run_one
from gradscope.experiments.sweep.grid import read_sweep

ALPHAS = (-0.3, -0.1, 0.0, 0.1, 0.5)
SIGN = {"vgg13": 1.0, "resnet14": 1.0, "vit": -1.0}


def planted():
    """Accuracy rises with alpha in two architectures and falls in one; grafted it is flat."""
    rows = [
        {"net": net, "arm": arm, "alpha": alpha, "seed": seed, "ln_loss": -alpha, "step": 0.1}
        | {"accuracy": 0.6 + 0.01 * seed + (sign * 0.2 * alpha if arm == "fixed" else 0.0)}
        for net, sign in SIGN.items()
        for seed in range(3)
        for arm in ("fixed", "grafted")
        for alpha in ALPHAS
        if alpha or arm == "fixed"
    ]
    outcomes = pd.DataFrame(rows).assign(lr=0.3, is_diverged=False)
    slopes = outcomes[["net", "arm", "alpha", "seed"]].assign(
        phase="start", slope=[-0.2 if net == "vgg13" else 0.0 for net in outcomes["net"]]
    )
    return {"outcomes": outcomes, "slopes": slopes}


def test_planted_orders_are_found():
    found = answer(planted(), "cpu")
    values = {one.statement: one.estimate for one in found.explored}
    text = "rank correlation over alpha, test accuracy, fixed arm, {} with {} (other seeds)"
    assert values[text.format("resnet14", "vgg13")] == pytest.approx(1)
    assert values[text.format("vit", "vgg13")] == pytest.approx(-1)
    assert values[text.format("vit", "itself")] == pytest.approx(1)
    best = "alpha with the highest test accuracy, fixed arm, {} less vgg13"
    assert values[best.format("vit")] == pytest.approx(-0.8)
    assert values[best.format("resnet14")] == 0
    flat = "RMS distance from alpha = 0, grafted less fixed arm, vit"
    # Root mean square of 0.2 times -0.3, -0.1, 0.1 and 0.5.
    assert values[flat] == pytest.approx(-0.2 * 0.3)
    slope = "depth slope of ln output gradient, start, alpha 0, vgg13"
    assert values[slope] == pytest.approx(-0.2)
    assert not found.evidence


def test_slopes_are_of_the_sites_alone():
    names = ["stem", "b.0.conv1", "b.0.conv2", "b.1.conv1", "b.1.conv2", "b.2.conv2", "head"]
    grads = np.exp([[9, 5, 0.0, -3, 0.5, 7, 9], [9, 5, 0.0, -3, -0.5, 7, 9]])
    stage = [0, 0, 0, 0, 0, 1, 1]
    inner = [False, True, True, True, True, True, False]
    profiles = xr.Dataset(
        {"output_grad_rms": (("step", "layer"), grads)},
        coords={"step": [1, 2], "layer": names, "stage": ("layer", stage)}
        | {"is_inner": ("layer", inner)},
    )
    # The third site stands alone in its stage and says nothing of the slope.
    assert site_slopes(profiles, r"\.conv2$")["slope"].values.tolist() == pytest.approx([0.5, -0.5])


@pytest.mark.slow
def test_recordings_become_tables(tmp_path):
    sweep = read_sweep(SPECS / f"{TRANSFER}.toml", scale="smoke")
    for run in sweep.plan({}):
        path = tmp_path / f"{TRANSFER}-smoke" / run.path.name
        assert run_one(run.config, path).status == "finished"
    tables = measure(find_runs([str(tmp_path)], [TRANSFER]))
    assert set(tables["outcomes"]["net"]) == {"efficientnet", "vit"}
    assert tables["slopes"]["slope"].notna().all() and len(tables["slopes"]) == 4
    assert tables["outcomes"]["step"].gt(0).all()
