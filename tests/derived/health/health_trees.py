"""Recordings by formula: a healthy run of an MLP with ReLU, and what can be changed about it."""

import numpy as np
import xarray as xr

N_LAYERS = 8


def healthy(n_steps=120, n_layers=N_LAYERS, **attrs):
    """Loss falls from 2.3 to 0.1; everything else is flat over depth and steps."""
    steps = np.arange(1, n_steps + 1)
    params = [f"layers.{2 * k}.weight" for k in range(n_layers)]
    owners = [f"layers.{2 * k}" for k in range(n_layers)]
    layers = [name for k in range(n_layers) for name in (f"layers.{2 * k}", f"layers.{2 * k + 1}")]
    depth = np.arange(n_layers)
    on_param = {
        "param": params,
        "layer": ("param", owners),
        "kind": ("param", ["weight"] * n_layers),
        "depth": ("param", depth),
        "layer_type": ("param", ["Linear"] * n_layers),
        "requires_grad": ("param", np.ones(n_layers, np.int8)),
        "param_group": ("param", np.zeros(n_layers, int)),
    }
    on_layer = {
        "layer": layers,
        "depth": ("layer", np.repeat(depth, 2)),
        "layer_type": ("layer", ["Linear", "ReLU"] * n_layers),
    }

    def over(dim, size, **values):
        shape = (n_steps, size)
        return {name: (("step", dim), np.full(shape, float(v))) for name, v in values.items()}

    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"status": "finished", **attrs}),
            "/training": xr.Dataset(
                {
                    "loss": ("step", 0.1 + 2.2 * np.exp(-(steps - 1) / 20)),
                    "is_skipped": ("step", np.zeros(n_steps)),
                    "loss_scale": ("step", np.full(n_steps, 65536.0)),
                    "total_grad_norm": ("step", np.ones(n_steps)),
                    "lr": (("step", "param_group"), np.full((n_steps, 1), 0.1)),
                    "alpha": (("step", "param_group"), np.full((n_steps, 1), -0.1)),
                },
                {"step": steps},
            ),
            "/gradients": xr.Dataset(
                over("param", n_layers, grad_norm=1, grad_nonfinite=0), {"step": steps, **on_param}
            ),
            "/updates": xr.Dataset(
                over("param", n_layers, update_norm=1e-3, param_norm=1, update_ratio=1e-3),
                {"step": steps, **on_param},
            ),
            "/activations": xr.Dataset(
                over(
                    "layer",
                    2 * n_layers,
                    output_rms=1,
                    output_zero_fraction=0.5,
                    output_grad_rms=1e-2,
                    output_numel=1e4,
                    output_grad_zero_fraction=0.5,
                ),
                {"step": steps, **on_layer},
            ),
        }
    )


def write(tree, path, values, rows=slice(None), columns=slice(None)):
    """Return a copy with some values of ``group/variable`` replaced."""
    tree = tree.copy(deep=True)
    variable = tree[path]
    where = (rows, columns)[: variable.ndim]
    data = variable.values.copy()
    data[where] = values
    group, name = path.split("/")
    dataset = tree[group].to_dataset(inherit=False)
    dataset[name] = (variable.dims, data)
    tree[group] = xr.DataTree(dataset)
    return tree


def drop(tree, *groups):
    """Return the tree without some groups."""
    return xr.DataTree.from_dict(
        {
            path: tree[path].to_dataset(inherit=False)
            for path in ("/", *(f"/{name}" for name in tree.children if name not in groups))
        }
    )
