"""The recorder in every kind of loop, each a small real training."""

from __future__ import annotations

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

import gradscope


def mlp(seed=0, width=12):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(inplace=True), nn.Linear(width, 4))


def data(n=16, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=g), torch.randint(0, 4, (n,), generator=g)


def run(model, optimizer, tmp_path, step, n_steps=3, **options):
    """Train ``n_steps`` with ``step(k, recorder)`` and open what was recorded."""
    path = tmp_path / "run.h5"
    with gradscope.Recorder(model, optimizer, path, **options) as recorder:
        for k in range(1, n_steps + 1):
            step(k, recorder)
    return gradscope.open_recording(path).load()


def norms(model):
    return {
        n: float(p.grad.double().norm()) for n, p in model.named_parameters() if p.grad is not None
    }


def assert_norms(tree, expected, step):
    got = tree["gradients/grad_norm"].sel(step=step)
    for name, value in expected.items():
        assert float(got.sel(param=name)) == pytest.approx(value, rel=1e-6), name


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
    last, start = {}, {}

    def step(k, recorder):
        start[k] = torch.cat([p.detach().flatten().clone() for p in model.parameters()])

        def closure():
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            return loss

        recorder.log(loss=optimizer.step(closure))
        last[k] = norms(model)
        moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - start[k]
        start[k] = float(moved.double().norm())

    tree = run(model, optimizer, tmp_path, step)
    assert tree["training"].sizes["step"] == 3
    for k in last:
        assert_norms(tree, last[k], k)
        total = float((tree["updates/update_norm"].sel(step=k) ** 2).sum() ** 0.5)
        assert total == pytest.approx(start[k], rel=1e-5)


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


def test_frozen_unused_unfrozen_and_added_parameters(tmp_path):
    model = mlp()
    model[0].weight.requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    x, y = data()

    def step(k, recorder):
        if k == 2:
            model[0].weight.requires_grad_(True)
            optimizer.add_param_group({"params": [model[0].weight], "lr": 0.5})
        if k == 3:
            model.append(nn.Linear(4, 4))
            optimizer.add_param_group({"params": model[3].parameters()})
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step, 4)
    norm = tree["gradients/grad_norm"]
    assert np.isnan(norm.sel(param="unused")).all()
    assert np.isnan(tree["updates/update_norm"].sel(param="unused")).all()
    assert np.isfinite(norm.sel(param="0.weight").values).tolist() == [False, True, True, True]
    assert np.isfinite(norm.sel(param="3.weight").values).tolist() == [False, False, True, True]
    assert np.isfinite(norm.sel(param="2.weight")).all()
    assert (tree["gradients/grad_nonfinite"].sel(param="unused").fillna(-1) == -1).all()
    lr = tree["training/lr"].values
    assert lr[0, 0] == 1e-3 and np.isnan(lr[0, 1]) and lr[1, 1] == 0.5
    # a module that is added is first seen when an optimizer steps its parameters
    seen = np.isfinite(tree["activations/output_rms"].sel(layer="3").values)
    assert seen.tolist() == [False, False, False, True]


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


def test_tied_weights_count_once(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 6)
            self.head = nn.Linear(6, 10, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return {"logits": self.head(self.embed(tokens))}

    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.Adam(model.parameters())
    tokens = torch.randint(0, 10, (5, 7))

    def step(k, recorder):
        optimizer.zero_grad()
        cross_entropy(model(tokens)["logits"].flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    assert tree["gradients"]["param"].values.tolist() == ["embed.weight"]
    assert tree["gradients"]["kind"].values.tolist() == ["embedding"]
    assert tree["activations"]["layer"].values.tolist() == ["embed", "head"]
    assert (tree["training/batch_size"] == 5).all()  # tokens are integers


def test_examples_are_counted_in_keyword_arguments_too(tmp_path):
    class Scaled(nn.Linear):
        def forward(self, *, scale, rows):
            return super().forward(rows) * scale

    model = Scaled(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(k, recorder):
        model(scale=torch.tensor(2.0), rows=torch.randn(4, 5, 3)).sum().backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    assert (tree["training/batch_size"] == 4).all()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_counts_each_layer_once(tmp_path, use_reentrant):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.block, self.last = nn.Linear(6, 8), mlp_block(), nn.Linear(8, 4)

        def forward(self, x):
            h = self.first(x)
            if self.is_checkpointed:
                h = checkpoint(self.block, h, use_reentrant=use_reentrant)
            else:
                h = self.block(h)
            return self.last(h)

    def mlp_block():
        return nn.Sequential(nn.Linear(8, 8), nn.Tanh())

    trees = []
    for is_checkpointed in (False, True):
        torch.manual_seed(0)
        model = Net()
        model.is_checkpointed = is_checkpointed
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        x, y = data()

        def step(k, recorder, model=model, optimizer=optimizer, x=x, y=y):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()

        folder = tmp_path / str(is_checkpointed)
        trees.append(run(model, optimizer, folder, step))
    plain, checkpointed = trees
    for name in ("output_numel", "output_rms", "output_grad_rms", "output_mean"):
        a, b = plain["activations"][name], checkpointed["activations"][name]
        np.testing.assert_allclose(a.values, b.sel(layer=a["layer"]).values, rtol=1e-6)


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


def test_model_can_be_copied_pickled_and_averaged_while_watched(tmp_path):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    x, y = data()
    average = torch.optim.swa_utils.AveragedModel(model)

    def step(k, recorder):
        other = copy.deepcopy(model)
        cross_entropy(other(x * 100), y).backward()
        torch.save(model, io.BytesIO())
        pickle.loads(pickle.dumps(model))  # noqa: S301
        model.to(torch.float32)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        average.update_parameters(model)
        average(x * 100)

    tree = run(model, optimizer, tmp_path, step)
    assert float(tree["activations/output_abs_max"].max()) < 10
    assert not model[0]._forward_hooks and not model[0]._forward_pre_hooks


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


def test_transformer_with_several_inputs(tmp_path):
    torch.manual_seed(0)
    model = nn.Transformer(16, 2, 1, 1, 32, dropout=0.0, batch_first=True)
    optimizer = torch.optim.AdamW(model.parameters())
    source, target = torch.randn(3, 5, 16), torch.randn(3, 4, 16)

    def step(k, recorder):
        optimizer.zero_grad()
        model(source, target).square().mean().backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    params = tree["gradients"]["param"].values.tolist()
    assert sorted(params) == sorted(n for n, _ in model.named_parameters())
    attention = "encoder.layers.0.self_attn"
    kinds = dict(zip(params, tree["gradients"]["kind"].values, strict=True))
    assert kinds[f"{attention}.in_proj_weight"] == "weight"
    depth = dict(zip(params, tree["gradients"]["depth"].values, strict=True))
    assert depth[f"{attention}.in_proj_weight"] == 0
    assert params.index(f"{attention}.out_proj.weight") > params.index(
        f"{attention}.in_proj_weight"
    )
    layers = tree["activations"]["layer"].values.tolist()
    assert layers.index("encoder.layers.0.linear1") < layers.index("decoder.layers.0.linear1")
    assert np.isfinite(tree["activations/output_grad_rms"].sel(layer=attention)).all()
    assert np.isfinite(tree["gradients/grad_norm"]).all()


def test_a_layer_used_twice_is_pooled(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x):
            return self.layer(torch.tanh(self.layer(x)))

    torch.manual_seed(0)
    model = Twice()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = data()
    first = model.layer(x)
    second = model.layer(torch.tanh(first))
    expected = float(torch.cat([first, second]).detach().square().mean().sqrt())

    def step(k, recorder):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step, 1)
    row = tree["activations"].sel(step=1, layer="layer")
    assert float(row["output_rms"]) == pytest.approx(expected, rel=1e-6)
    assert int(row["output_numel"]) == 2 * 16 * 6


def test_parts_of_a_model_may_be_called_alone(tmp_path):
    model = nn.ModuleDict({"a": nn.Linear(6, 5), "b": nn.Linear(5, 4)})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = data()

    def step(k, recorder):
        optimizer.zero_grad()
        cross_entropy(model["b"](model["a"](x)), y).backward()
        optimizer.step()

    tree = run(model, optimizer, tmp_path, step)
    assert np.isfinite(tree["activations/output_grad_rms"]).all()
    assert (tree["training/n_microbatches"] == 1).all()


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
        with pytest.raises(ValueError, match="unknown attribute"):
            recorder.describe(colour="red")
    with pytest.raises(gradscope.errors.UsageError, match="closed"):
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
