"""Rows of transformers by role, whatever library named them."""

from __future__ import annotations

import pytest
import torch

import gradscope
from gradscope.plots.figure import View, draw_picture
from gradscope.plots.layouts.roles import read_roles, role_of


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("transformer.h.0.attn.c_attn.weight", "attention"),  # GPT-2
        ("transformer.h.0.mlp.c_proj.weight", "mlp"),
        ("transformer.h.0.ln_1.weight", "norm"),
        ("bert.encoder.layer.0.attention.self.query.weight", "attention"),  # BERT
        ("bert.encoder.layer.0.attention.output.LayerNorm.weight", "norm"),
        ("bert.encoder.layer.0.intermediate.dense.weight", "mlp"),
        ("model.layers.0.self_attn.q_proj.weight", "attention"),  # Llama
        ("model.layers.0.mlp.gate_proj.weight", "mlp"),
        ("model.layers.0.input_layernorm.weight", "norm"),
        ("layers.0.self_attn.out_proj.weight", "attention"),  # torch.nn.TransformerEncoder
        ("layers.0.linear1.weight", "mlp"),
        ("model.embed_tokens.weight", "other"),
        ("lm_head.weight", "other"),
        ("features.0.weight", "other"),
    ],
)
def test_names_of_libraries(name, role):
    assert role_of(name) == role


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), encoder, torch.nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters())
    path = tmp_path_factory.mktemp("runs") / "run.h5"
    with gradscope.Recorder(model, optimizer, path, every=1) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(torch.randn(2, 5, 4)).square().mean()
            loss.backward()
            optimizer.step()
            recorder.log(loss=loss)
    return gradscope.open_recording(path)


def test_every_row_is_in_one_role_and_norms_are_added(tree):
    roles = read_roles(tree, View())
    assert list(roles) == ["attention", "mlp", "norm", "other"]
    sizes = {role: data.sizes["param"] for role, data in roles.items()}
    assert sizes == {"attention": 6, "mlp": 6, "norm": 6, "other": 2}
    assert not any(name.endswith("bias") for name in roles["norm"]["param"].values)


@pytest.mark.parametrize("kind", ["profile", "trajectories"])
@pytest.mark.parametrize("quantity", ["grad_norm", "output_rms"])
def test_a_panel_for_each_role_on_one_scale(tree, kind, quantity):
    picture = draw_picture(tree, View(kind=kind, quantity=quantity))
    titles = [ax.get_title(loc="left").partition(":")[0] for ax in picture.figure.axes]
    assert titles[:2] == ["attention", "mlp"]
    limits = {ax.get_ylim() for ax, title in zip(picture.figure.axes, titles, strict=True) if title}
    assert len(limits) == 1


def test_lines_of_a_profile_join_layers_of_one_kind_only(tree):
    ax = draw_picture(tree, View(kind="profile", quantity="grad_norm")).figure.axes[0]
    assert "solid" in ax.get_title(loc="left") and "dashed" in ax.get_title(loc="left")
    assert all(len(line.get_xdata()) == 3 for line in ax.lines)
