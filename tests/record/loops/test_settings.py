"""What is recorded and how it ends: second moments, presets, errors, exceptions."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import gradscope
from gradscope.derived.select import select
from gradscope.errors import UsageError
from tests.record.loops.training_loops import data, mlp, run


def test_non_finite_gradients_are_counted_and_located(tmp_path):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = data()

    def step(k, recorder):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y) * (math.nan if k == 3 else 1)
        loss.backward()
        if k == 2:
            model[0].weight.grad[0, :3] = math.inf
        optimizer.step()
        recorder.log(loss=loss)

    tree = run(model, optimizer, tmp_path, step)
    assert tree["gradients/grad_nonfinite"].sel(param="0.weight").values.tolist()[:2] == [0, 3]
    assert np.isfinite(tree["gradients/grad_norm"].sel(param="0.weight", step=2))
    assert tree.attrs["first_nonfinite_step"] == 2 and tree.attrs["first_nonfinite_layer"] == "0"
    assert tree.attrs["status"] == "diverged"


def test_a_loss_counts_as_it_was_when_it_was_logged(tmp_path):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = data()
    losses = torch.zeros(4)  # of which parts are logged, and which is used again

    def step(k, recorder):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses[k % 4] = loss.detach()
        recorder.log(loss=losses[k % 4])
        losses.fill_(math.nan)

    tree = run(model, optimizer, tmp_path, step)
    assert tree.attrs["status"] == "finished"
    assert np.isfinite(tree["training/loss"]).all()


def test_an_exception_closes_the_file_and_removes_the_hooks(tmp_path):
    from torch.nn.modules import module as torch_module

    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    x, y = data()
    path = tmp_path / "run.h5"
    with pytest.raises(RuntimeError, match="mine"), gradscope.Recorder(model, optimizer, path):
        cross_entropy(model(x), y).backward()
        optimizer.step()
        model(x)
        raise RuntimeError("mine")
    tree = gradscope.open_recording(path)
    assert tree.attrs["status"] == "failed" and tree["training"].sizes["step"] == 1
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks
    assert not torch_module._global_forward_hooks and not torch_module._global_forward_pre_hooks
    assert not torch_module._global_forward_hooks_with_kwargs


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.AdamW,
        torch.optim.Adadelta,
    ],
)
def test_second_moments_of_torch_optimizers(tmp_path, make):
    model = mlp()
    optimizer = make(model.parameters(), lr=0.01)
    x, y = data()
    keys = {"RMSprop": "square_avg", "Adagrad": "sum", "Adadelta": "square_avg"}
    truth = {}

    def step(k, recorder):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        state = optimizer.state[model[0].weight]
        truth[k] = float(state[keys.get(make.__name__, "exp_avg_sq")].double().mean())

    tree = run(model, optimizer, tmp_path, step)
    got = tree["second_moments/exp_avg_sq_mean"].sel(param="0.weight").values
    assert got.tolist() == pytest.approx(list(truth.values()), rel=1e-6)


def test_own_second_moment_of_sgd(tmp_path):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    x, y = data()
    v, truth = torch.zeros_like(model[0].weight), []

    def step(k, recorder):
        nonlocal v
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        v = 0.999 * v + 0.001 * model[0].weight.grad ** 2
        truth.append(float(v.mean()))
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step, second_moment="own", every=2)
    moments = tree["second_moments"].sel(param="0.weight")
    assert moments["step"].values.tolist() == [1, 3]
    assert moments["exp_avg_sq_mean"].values.tolist() == pytest.approx(
        [truth[0], truth[2]], rel=1e-5
    )
    assert moments["exp_avg_sq_hat_mean"].values[0] == pytest.approx(truth[0] / 0.001, rel=1e-4)
    assert moments["state_step"].values.tolist() == [1, 3]
    assert np.isnan(moments["signal_fraction"]).all()  # momentum is a sum, not an average


def test_cadence_selection_and_presets(tmp_path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    x, y = data()

    def step(k, recorder):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step, 7, every=3, record="light", include="weight$")
    assert tree["training"].sizes["step"] == 7
    assert tree["gradients"]["step"].values.tolist() == [1, 4, 7]
    assert tree["gradients"]["param"].values.tolist() == ["0.weight", "2.weight"]
    assert "updates" not in tree.children and "activations" not in tree.children


def test_recorder_says_what_is_wrong(tmp_path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    path = tmp_path / "run.h5"
    with pytest.raises(TypeError, match="`optimizer` must be a torch Optimizer"):
        gradscope.Recorder(model, model.parameters(), path)
    with pytest.raises(TypeError, match="`model` must be a torch Module"):
        gradscope.Recorder("vgg", optimizer, path)
    with pytest.raises(ValueError, match="did you mean 'standard'"):
        gradscope.Recorder(model, optimizer, path, record="standart")
    with pytest.raises(ValueError, match="unknown group"):
        gradscope.Recorder(model, optimizer, path, record={"gradient"})
    with pytest.raises(ValueError, match="at least 1"):
        gradscope.Recorder(model, optimizer, path, every=0)
    with pytest.raises(ValueError, match="no regular expression"):
        gradscope.Recorder(model, optimizer, path, include="[")
    assert not list(tmp_path.iterdir())  # nothing half-made is left behind
    with gradscope.Recorder(model, optimizer, path) as recorder:
        with pytest.raises(ValueError, match="one number"):
            recorder.log(loss=torch.ones(2))
        with pytest.raises(TypeError, match="one number"):
            recorder.log(loss="low")
        with pytest.raises(ValueError, match="recorded by gradscope itself"):
            recorder.log(lr=0.1)
        with pytest.raises(ValueError, match="unknown root attribute"):
            recorder.describe(colour="red")
    with pytest.warns(RuntimeWarning, match="after the end of the recording"):
        recorder.log(loss=1.0)
    with pytest.raises(FileExistsError):
        gradscope.Recorder(model, optimizer, path)


def test_rerunning_a_cell_replaces_the_recorder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    x, y = data()
    for _ in range(2):
        recorder = gradscope.Recorder(model, optimizer, "cell.h5", if_exists="overwrite")
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    assert recorder.data["training"].sizes["step"] == 3
    assert recorder.data.attrs["status"] == "running"
    recorder.close()
    assert gradscope.open_recording(gradscope.latest(tmp_path)).attrs["status"] == "finished"


def test_rerunning_a_cell_that_makes_the_optimizer_too_replaces_the_recorder(tmp_path):
    x, y = data()
    (tmp_path / "alias").symlink_to(tmp_path)
    recorders = []
    for folder in (tmp_path, tmp_path / "alias"):
        model = mlp()
        optimizer = torch.optim.Adam(model.parameters())
        expected = pytest.warns(RuntimeWarning) if recorders else contextlib.nullcontext([])
        with expected as said:
            path = folder / "cell.h5"
            recorders.append(gradscope.Recorder(model, optimizer, path, if_exists="overwrite"))
            for _ in range(3):
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                optimizer.step()
    assert "another recorder was attached to its file" in str(said[0].message)
    recorders[0].log(loss=1.0)  # a training must not stop, should it go on
    recorders[1].close()
    tree = gradscope.open_recording(tmp_path / "cell.h5")
    assert tree["training"].sizes["step"] == 3
    assert tree.attrs["status"] == "finished"


@pytest.mark.parametrize("if_exists", ["error", "resume"])
def test_a_second_recorder_that_was_not_told_to_replace_the_first_is_refused(tmp_path, if_exists):
    models = mlp(), mlp()
    first, second = (torch.optim.Adam(model.parameters()) for model in models)
    with gradscope.Recorder(models[0], first, tmp_path / "run.h5"):
        with pytest.raises(FileExistsError, match="written by this process; close its recorder"):
            gradscope.Recorder(models[1], second, tmp_path / "run.h5", if_exists=if_exists)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"include": ["0.weight"]}, "`include` must be a regular expression or name -> bool"),
        ({"exclude": 5}, "`exclude` must be a regular expression or name -> bool; got 5"),
        ({"grad_scaler": 1}, "`grad_scaler` must be a GradScaler; got 1"),
        ({"on_health": 1}, "`on_health` must be a function of a finding; got 1"),
        ({"tags": ["a", 1]}, "`tags` must be text; got 1"),
    ],
)
def test_what_is_of_the_wrong_kind_is_named_and_costs_no_recording(tmp_path, options, words):
    path = tmp_path / "run.h5"
    path.write_text("an earlier one")
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(TypeError, match=words):
        gradscope.Recorder(model, optimizer, path, if_exists="overwrite", **options)
    assert path.read_text() == "an earlier one"
    assert [file.name for file in tmp_path.iterdir()] == ["run.h5"]


@pytest.mark.parametrize("if_exists", ["error", "overwrite", "resume"])
def test_a_folder_is_no_name_for_a_recording(tmp_path, monkeypatch, if_exists):
    monkeypatch.chdir(tmp_path)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    for path in (tmp_path, ""):
        with pytest.raises((FileExistsError, ValueError), match="is a folder; give the name of a"):
            gradscope.Recorder(model, optimizer, path, if_exists=if_exists)
    assert not list(tmp_path.iterdir())


def plain_training():
    model, (x, y) = mlp(), data()
    optimizer = torch.optim.Adam(model.parameters())

    def step(k, recorder):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    return model, optimizer, step


def test_a_selection_that_leaves_no_parameter_is_said(tmp_path):
    model, optimizer, step = plain_training()
    with pytest.warns(RuntimeWarning, match=r"leave none of 4 parameters, .* like '0.weight'") as w:
        tree = run(model, optimizer, tmp_path, step, include="block")
    assert len(w) == 1
    assert tree["gradients"].sizes == {"step": 3, "param": 0}
    for by in ("weight", "param", "layer"):
        with pytest.raises(UsageError, match="holds no parameters"):
            select(tree, "grad_norm", by=by)


def test_a_cadence_may_answer_with_anything_that_is_true_or_false(tmp_path):
    model, optimizer, step = plain_training()
    tree = run(model, optimizer, tmp_path, step, every=lambda k: [k] if k == 2 else None)
    assert tree["gradients"]["step"].values.tolist() == [2]
    assert tree.attrs["status"] == "finished"
