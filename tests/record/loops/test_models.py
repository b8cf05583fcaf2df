"""Models of every kind: frozen, tied, checkpointed, with several inputs, called in parts."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from tests.record.loops.training_loops import data, mlp, run


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
        is_checkpointed = False

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
