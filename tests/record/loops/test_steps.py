"""Steps as loops make them: accumulation, scaling, clipping, closures, several optimizers."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.record.loops.training_loops import assert_norms, data, mlp, norms, run


def test_accumulation_pools_micro_batches(tmp_path):
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters())
    x, y = data(24)
    seen = {}

    def step(k, recorder):
        optimizer.zero_grad()
        for part in range(3):
            at = slice(8 * part, 8 * part + 8)
            loss = cross_entropy(model(x[at]), y[at]) / 3
            loss.backward()
        seen[k] = norms(model)
        optimizer.step()
        recorder.log(loss=loss)

    whole = copy.deepcopy(model)
    tree = run(model, optimizer, tmp_path, step)
    assert tree["training/n_microbatches"].values.tolist() == [3, 3, 3]
    assert tree["training/batch_size"].values.tolist() == [24, 24, 24]
    for k in seen:
        assert_norms(tree, seen[k], k)
    # the same as one batch of 24: output gradients are of the global-batch mean loss
    h = whole[0](x)
    out = whole[2](torch.relu(h))
    (delta,) = torch.autograd.grad(cross_entropy(out, y), out)
    activations = tree["activations"].sel(step=1, layer="2")
    assert float(activations["output_grad_rms"]) == pytest.approx(
        float(delta.detach().square().mean().sqrt()), rel=1e-6
    )
    assert float(activations["output_mean"]) == pytest.approx(float(out.detach().mean()), rel=1e-5)
    assert int(activations["output_numel"]) == 24 * 4


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_grad_scaler_unscales_and_tells_skipped_steps(tmp_path, fused, dtype):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), fused=fused, lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x, y = data()
    true, before, moved = {}, {}, {}

    def step(k, recorder):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            loss = cross_entropy(model(x), y)
        before[k] = [p.detach().clone() for p in model.parameters()]
        grads = torch.autograd.grad(
            loss * scaler.get_scale(), model.parameters(), retain_graph=True
        )
        true[k] = [float((g / scaler.get_scale()).double().norm()) for g in grads]
        scaler.scale(loss).backward()
        if k == 2:
            model[0].weight.grad[0, 0] = math.inf
        scaler.step(optimizer)
        scaler.update()
        moved[k] = [
            float((p.detach().double() - b.double()).norm())
            for p, b in zip(model.parameters(), before[k], strict=True)
        ]

    tree = run(model, optimizer, tmp_path, step, 4, grad_scaler=scaler)
    training = tree["training"]
    assert training["is_skipped"].values.tolist() == [0, 1, 0, 0]
    assert training["loss_scale"].values.tolist() == [1024, 1024, 512, 512]
    assert training["step"].values.tolist() == [1, 2, 3, 4]
    assert tree["gradients/grad_nonfinite"].sel(step=2, param="0.weight") == 1
    names = [n for n, _ in model.named_parameters()]
    for k in (1, 3, 4):
        row = tree["gradients/grad_norm"].sel(step=k)
        for name, value in zip(names, true[k], strict=True):
            assert float(row.sel(param=name)) == pytest.approx(value, rel=2e-3 if k > 1 else 1e-5)
        update = tree["updates/update_norm"].sel(step=k)
        for name, value in zip(names, moved[k], strict=True):
            assert float(update.sel(param=name)) == pytest.approx(value, rel=1e-5)
        # <g, u> / (|g| |u|) is a cosine only if both come unscaled
        cosine = tree["updates/update_grad_cosine"].sel(step=k).values
        assert (np.abs(cosine) <= 1.0001).all() and (cosine[:1] < 0).all()
    assert np.isnan(tree["updates/update_norm"].sel(step=2)).all()
    assert np.isnan(tree["second_moments/exp_avg_sq_mean"].sel(step=2)).all()
    # output gradients are unscaled too: with softmax they are at most 1/n
    assert float(tree["activations/output_grad_abs_max"].sel(layer="2").max()) <= 1 / 16 + 1e-6
    assert "step" not in scaler.__dict__


def test_clipping_is_seen_through_torch_itself(tmp_path):
    from torch.nn.utils import clip_grad_norm_

    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = data()
    totals = {}

    def step(k, recorder):
        optimizer.zero_grad()
        cross_entropy(model(x) * 10, y).backward()
        totals[k] = float(clip_grad_norm_(model.parameters(), 0.5 if k < 3 else 1e9))
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    training = tree["training"]
    assert training["total_grad_norm"].values.tolist() == pytest.approx(
        list(totals.values()), rel=1e-5
    )
    expected = [0.5 / totals[1], 0.5 / totals[2], 1.0]
    assert training["clip_coefficient"].values.tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.nn.utils.clip_grad._clip_grads_with_norm_.__module__ == "torch.nn.utils.clip_grad"


def test_closures(tmp_path):
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    x, y = data()
    last, moved = {}, {}

    def step(k, recorder):
        start = torch.cat([p.detach().flatten().clone() for p in model.parameters()])

        def closure():
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            return loss

        recorder.log(loss=optimizer.step(closure))
        last[k] = norms(model)
        way = torch.cat([p.detach().flatten() for p in model.parameters()]) - start
        moved[k] = float(way.double().norm())

    tree = run(model, optimizer, tmp_path, step)
    assert tree["training"].sizes["step"] == 3
    for k in last:
        assert_norms(tree, last[k], k)
        total = float((tree["updates/update_norm"].sel(step=k) ** 2).sum() ** 0.5)
        assert total == pytest.approx(moved[k], rel=1e-5)


def test_several_optimizers_and_models(tmp_path):
    g, d = mlp(1), mlp(2)
    optimizers = {
        "g": torch.optim.Adam(g.parameters(), 0.01),
        "d": torch.optim.SGD(d.parameters(), 0.1),
    }
    x, y = data()

    def step(k, recorder):
        for name, model in (("d", d), ("g", g)):
            optimizers[name].zero_grad()
            cross_entropy(model(x), y).backward()
            optimizers[name].step()

    tree = run({"g": g, "d": d}, optimizers, tmp_path, step, 2)
    assert tree["training/optimizer"].values.tolist() == [0b10, 0b01, 0b10, 0b01]
    assert tree["training/round"].values.tolist() == [1, 1, 2, 2]
    norm = tree["gradients/grad_norm"]
    assert {p.split(".")[0] for p in norm["param"].values} == {"g", "d"}
    is_d = np.array([p.startswith("d.") for p in norm["param"].values])
    assert np.isnan(norm.values[0][~is_d]).all() and np.isfinite(norm.values[0][is_d]).all()
    assert np.isnan(norm.values[1][is_d]).all() and np.isfinite(norm.values[1][~is_d]).all()
    assert tree["training/alpha"].values[0].tolist() == [0.5, 0.0]
    assert tree.attrs["optimizer_name"] == "Adam SGD"


def test_loss_may_be_logged_before_or_after_the_step(tmp_path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    x, y = data()

    def step(k, recorder):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        if k % 2:
            recorder.log(loss=10 * k)
        optimizer.step()
        if not k % 2:
            recorder.log(loss=torch.tensor(10.0 * k))

    tree = run(model, optimizer, tmp_path, step, 4)
    assert tree["training/loss"].values.tolist() == [10, 20, 30, 40]


def test_pause(tmp_path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    x, y = data()

    def step(k, recorder):
        (recorder.pause if k == 2 else recorder.unpause)()
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    assert run(model, optimizer, tmp_path, step, 4)["training"].sizes["step"] == 3


def test_evaluation_between_steps_does_not_mix_in(tmp_path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    x, y = data()

    def step(k, recorder):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        model(x * 100)  # with gradients, but nothing flows back
        optimizer.step()
        with torch.no_grad():
            model(x * 1000)
        model.eval()
        model(x * 1000)
        model.train()
        recorder.log(val_loss=float(k), note=k)

    tree = run(model, optimizer, tmp_path, step)
    assert float(tree["activations/output_abs_max"].max()) < 10
    assert (tree["training/batch_size"] == 16).all() and (
        tree["training/n_microbatches"] == 1
    ).all()
    assert tree["evaluation/val_loss"].values.tolist() == [1, 2, 3]
    assert tree["evaluation"]["step"].values.tolist() == [1, 2, 3]


def test_evaluation_before_the_first_step_is_at_step_zero(tmp_path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    x, y = data()

    def step(k, recorder):
        if k == 1:
            recorder.log(val_loss=9.0)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    assert tree["evaluation"]["step"].values.tolist() == [0]
