import numpy as np
import pytest
import xarray as xr

from gradscope.derived.compare.align import align_runs, loss_progress
from gradscope.errors import UsageError
from tests.planted import planted_runs


def grad_norm(tree):
    return tree["gradients"].dataset["grad_norm"].load()


def without(tree, run, steps):
    """Make some steps of one run missing."""
    data = grad_norm(tree).copy(deep=True)
    data.values[run, np.isin(data["step"].values, steps)] = np.nan
    return data


def test_steps_that_a_run_did_not_record_are_left_out():
    tree = planted_runs(n_seeds=1)
    aligned = align_runs(tree, without(tree, 0, [3, 7]))
    assert aligned["step"].values.tolist() == [k for k in range(1, 21) if k not in (3, 7)]


def test_a_run_that_ended_early_is_missing_after_its_end():
    tree = planted_runs(n_seeds=1)
    aligned = align_runs(tree, without(tree, 1, range(11, 21)))
    assert aligned.sizes["step"] == 20
    assert np.isnan(aligned.values[1, 10:]).all() and np.isfinite(aligned.values[0]).all()


def test_equal_losses_are_reached_at_their_own_steps():
    """The loss is 3·exp(−k/10) and 3·exp(−k/5): the same level stands at twice the step."""
    tree = planted_runs(n_seeds=1, n_steps=2000)
    data = grad_norm(tree).copy(deep=True)
    data.values[:] = data["step"].values[None, :, None]  # the quantity is the step itself
    tree["training"]["loss"].values[:] = 3 * np.exp(
        -data["step"].values[None, :] * np.array([[1.0], [2.0]]) / 800
    )
    aligned = align_runs(tree, data, "loss")
    slow, fast = aligned.values[:, :, 0]
    assert (np.diff(aligned["loss"].values) > 0).all()
    late = slow > 200  # the smoothing over 40 steps is not felt any more
    np.testing.assert_allclose(slow[late] / fast[late], 2, rtol=0.1)
    assert aligned["loss"].attrs["units"] == "nat"


def test_a_loss_that_a_run_never_reached_is_missing():
    tree = planted_runs(n_seeds=1)
    aligned = align_runs(tree, grad_norm(tree), "loss")
    lowest = aligned.isel(loss=0).values
    assert np.isnan(lowest[0]).all() and np.isfinite(lowest[1]).all()


def test_progress_never_rises_and_averages_luck_out():
    loss = np.ones(100)
    loss[40] = 0.0
    progress = loss_progress(np.arange(100), loss)
    assert (np.diff(progress) <= 0).all() and progress.min() == 0.5


def test_epochs_take_the_nearest_row_of_each_run():
    """One run takes 10 steps an epoch, the other 20: its rows stand at twice the step."""
    tree = planted_runs(n_seeds=1)
    data = grad_norm(tree).copy(deep=True)
    data.values[:] = data["step"].values[None, :, None]
    evaluation = tree["evaluation"].dataset.copy(deep=True)
    evaluation["val_loss"].values[1, 1] = np.nan  # evaluated at 0 and 20 only
    tree["evaluation"] = type(tree)(evaluation)
    aligned = align_runs(tree, data, "epoch")
    own = aligned.sel(epoch=[0.5, 1.0]).values[:, :, 0]
    assert own.tolist() == [[5, 10], [10, 20]]
    assert np.isnan(aligned.sel(epoch=1.5).values[1]).all()


def test_a_logged_epoch_is_used():
    tree = planted_runs(n_seeds=1)
    del tree.attrs["epochs"]
    with pytest.raises(UsageError, match="does not say how long an epoch is; log it"):
        align_runs(tree, grad_norm(tree), "epoch")
    values = np.tile([0.0, 2.0, 4.0], (2, 1))
    tree["evaluation"] = tree["evaluation"].assign(epoch=xr.Variable(("run", "step"), values))
    aligned = align_runs(tree, grad_norm(tree), "epoch")
    np.testing.assert_allclose(aligned["epoch"].values, np.arange(1, 21) / 5)


def test_what_cannot_be_aligned_is_explained():
    tree = planted_runs(n_seeds=1)
    with pytest.raises(UsageError, match="unknown axis 'time'"):
        align_runs(tree, grad_norm(tree), "time")
    with pytest.raises(UsageError, match=r"run a0\.5-s0 has no value of `grad_norm`"):
        align_runs(tree, without(tree, 1, range(1, 21)))
    odd = without(tree, 0, range(1, 21, 2))
    odd.values[1, 1::2] = np.nan
    with pytest.raises(UsageError, match="no step of `grad_norm` in common; use --axis epoch"):
        align_runs(tree, odd)
    tree["training"]["loss"].values[:] = 100.0
    with pytest.raises(UsageError, match="have no level in common"):
        align_runs(tree, grad_norm(tree), "loss")
