"""Several recordings of which some were killed, or whose groups have few steps in common."""

import json

import numpy as np
import pytest

from gradscope.cli.main import main
from gradscope.derived.cells import NONFINITE, NUMBER, select_cells
from gradscope.derived.compare.align import align_runs
from gradscope.errors import UsageError
from gradscope.store.read.runs import open_runs
from gradscope.view.curves import read_curve
from tests.helpers import write_recording

GROUPS = ("training", "evaluation", "gradients", "updates", "second_moments", "activations")


def config(alpha):
    return json.dumps({"alpha": alpha})


def rising(columns, params, layers):
    columns["evaluation"]["test_accuracy"][:] = [0.1, 0.5, 0.9]  # at steps 1, 25 and 50


def sweep(folder, lasts):
    return [
        write_recording(
            folder / f"r{i}.h5",
            50,
            ends=dict.fromkeys(GROUPS, last),
            change=rising,
            config_json=config(0.1 * i),
        )
        for i, last in enumerate(lasts)
    ]


def plotted(files, kind, folder):
    out = folder / "out.png"
    words = ["plot", *map(str, files), "--kind", kind, "--data", "-o", str(out)]
    assert main(words) == 0
    return np.genfromtxt(out.with_suffix(".csv"), delimiter=",", names=True, dtype=None)


def test_each_run_counts_as_it_ended(tmp_path):
    table = plotted(sweep(tmp_path, (50, 50, 25)), "alpha", tmp_path)
    np.testing.assert_allclose(table["test_accuracy"], [0.9, 0.9, 0.5])


def test_curves_go_to_the_end_of_each_run(tmp_path):
    table = plotted(sweep(tmp_path, (50, 25)), "curves", tmp_path)
    lasts = {run: max(table["step"][table["run"] == run]) for run in np.unique(table["run"])}
    assert lasts == {"r0": 50, "r1": 25}


def spiking(at):
    def change(columns, params, layers):
        near = np.arange(at - 3, at + 4)
        columns["spikes"] = {"event": np.array([at]), "spike_reason": np.array([0])}
        for group in ("training", "gradients"):
            rows = {name: np.asarray(values)[near - 1] for name, values in columns[group].items()}
            columns[f"spikes/{group}"] = rows | {"step": near}

    return change


def test_runs_without_a_common_spike_are_drawn_together(tmp_path):
    files = [write_recording(tmp_path / f"{at}.h5", 50, change=spiking(at)) for at in (10, 40)]
    table = plotted(files, "heatmap", tmp_path)
    assert set(table["step"]) == set(range(1, 51))
    with open_runs(files, steps="common") as tree:
        assert "spikes" not in tree.children
    with pytest.raises(UsageError, match="no step of /spikes in common"):
        open_runs(files, ("gradients", "spikes"), steps="common")


def test_runs_that_have_no_step_in_common_are_refused(tmp_path):
    def late(columns, params, layers):
        for name in list(columns):
            chosen = np.asarray(columns[name]["step"]) > 30
            columns[name] = {key: np.asarray(v)[chosen] for key, v in columns[name].items()}

    early = write_recording(tmp_path / "early.h5", 50, ends=dict.fromkeys(GROUPS, 20))
    with pytest.raises(UsageError, match="in common"):
        open_runs([early, write_recording(tmp_path / "l.h5", 50, change=late)], steps="common")


@pytest.mark.parametrize("n_steps", [2, 50])  # as many steps as runs, and others
def test_entries_are_those_of_each_run_where_widths_differ(tmp_path, n_steps):
    def nonfinite(factor):
        def change(columns, params, layers):
            params["numel"] = [700 * factor] * len(params["numel"])
            columns["gradients"]["grad_nonfinite"][:] = 700

        return change

    files = [
        write_recording(tmp_path / f"{factor}.h5", n_steps, change=nonfinite(factor))
        for factor in (1, 2)
    ]
    with open_runs(files) as tree:
        states = select_cells(tree, "grad_norm")["cell_state"]
    assert (states.isel(run=0) == NONFINITE).all() and (states.isel(run=1) == NUMBER).all()


def test_epochs_go_on_beyond_those_that_were_logged(tmp_path):
    def change(columns, params, layers):
        steps = columns["training"]["step"]
        columns["training"]["epoch"] = np.where(steps % 10 == 0, steps / 10, np.nan)
        columns["gradients"]["grad_nonfinite"][:] = 0
        columns["gradients"]["grad_norm"][:] = columns["gradients"]["step"][:, None]

    files = [
        write_recording(tmp_path / f"{i}.h5", 29, change=change, config_json=config(0.1 * i))
        for i in range(2)
    ]
    with open_runs(files) as tree:
        data = select_cells(tree, "grad_norm").drop_vars("cell_state")
        aligned = align_runs(tree, data, "epoch")
    np.testing.assert_allclose(aligned["epoch"], np.arange(1, 30) / 10)
    np.testing.assert_allclose(aligned.values[0, :, 0], np.arange(1, 30))
    curve = read_curve(files[0], "loss", layer="", by="weight", x="epoch")
    np.testing.assert_allclose(curve.x, np.arange(1, 30) / 10)


def test_a_truncated_copy_reaches_a_loss_when_the_whole_run_does(tmp_path):
    def change(columns, params, layers):
        steps = columns["training"]["step"]
        noise = np.random.default_rng(3).normal(size=len(steps))
        columns["training"]["loss"] = 2.3 - 0.0005 * steps + 0.2 * noise
        columns["gradients"]["grad_nonfinite"][:] = 0
        columns["gradients"]["grad_norm"][:] = columns["gradients"]["step"][:, None]

    files = [
        write_recording(
            tmp_path / f"{last}.h5", 3000, 3, ends=dict.fromkeys(GROUPS, last), change=change
        )
        for last in (3000, 1000)
    ]
    with open_runs(files, steps="union") as tree:
        data = select_cells(tree, "grad_norm").drop_vars("cell_state")
        steps = align_runs(tree, data, "loss").values[..., 0]
    both = np.isfinite(steps).all(axis=0)
    assert both.sum() > 10
    np.testing.assert_array_equal(steps[0, both], steps[1, both])
