"""A made-up recording for tests: declared names, plausible sizes, no training behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from gradscope import schema

DTYPES = {"bool": "int8"}
SWEEP_SPEC = """
seeds = 2
[base]
model = "plain"
units = 8
depth = 2
dataset = "synthetic"
n_classes = 2
samples_per_class = 20
batch_size = 8
steps = 3
[grid]
alpha = [-0.1, 0.5]
"""
"""Four runs of three steps."""


def auto_steps(last: int) -> np.ndarray:
    """Steps that ``every="auto"`` records: all up to 1,000, then 1,000 for each factor of ten."""
    if last <= 1000:
        return np.arange(1, last + 1)
    n_later = int(1000 * np.log10(last / 1000))
    later = np.unique(np.round(np.geomspace(1000, last, n_later + 1)).astype(np.int64))
    return np.unique(np.concatenate([np.arange(1, 1001), later]))


def _network(n_layers: int) -> tuple[dict[str, list], dict[str, list]]:
    """Coordinates of a plain net: blocks of convolution, batch norm, ReLU; one linear head."""
    params: dict[str, list] = {name: [] for name in ("param", *schema.PARAM_COORDINATES)}
    layers: dict[str, list] = {name: [] for name in ("layer", *schema.LAYER_COORDINATES)}

    def add_layer(name, kind, depth, stage):
        row = (name, depth, depth / max(n_layers - 1, 1), kind, stage, "")
        for key, value in zip(("layer", *schema.LAYER_COORDINATES), row, strict=True):
            layers[key].append(value)

    def add_param(layer, name, kind, shape, depth, stage, layer_type):
        numel = int(np.prod(shape))
        fan_in = numel // shape[0] if len(shape) > 1 else 1
        row = (
            f"{layer}.{name}",
            layer,
            depth,
            depth / max(n_layers - 1, 1),
            layer_type,
            stage,
            kind,
            numel,
            str(shape),
            fan_in,
            0,
            1,
        )
        for key, value in zip(("param", *schema.PARAM_COORDINATES), row, strict=True):
            params[key].append(value)

    for depth in range(n_layers):
        stage = 5 * depth // n_layers
        if depth == n_layers - 1:
            add_layer("classifier", "Linear", depth, stage)
            add_param("classifier", "weight", "weight", (10, 64), depth, stage, "Linear")
            add_param("classifier", "bias", "bias", (10,), depth, stage, "Linear")
            break
        conv, norm, relu = (f"features.{3 * depth + k}" for k in range(3))
        for name, kind in ((conv, "Conv2d"), (norm, "BatchNorm2d"), (relu, "ReLU")):
            add_layer(name, kind, depth, stage)
        width = 8 * 2**stage
        add_param(conv, "weight", "weight", (width, width, 3, 3), depth, stage, "Conv2d")
        add_param(conv, "bias", "dead_bias", (width,), depth, stage, "Conv2d")
        add_param(norm, "weight", "norm_weight", (width,), depth, stage, "BatchNorm2d")
        add_param(norm, "bias", "norm_bias", (width,), depth, stage, "BatchNorm2d")
    return params, layers


def _values(variable, shape, rng, steps, depth):
    """Log-normal for magnitudes, [0, 1] for shares, [-1, 1] for cosines, Poisson for counts."""
    name = variable.name
    noise = rng.normal(size=shape)
    if variable.dtype in ("int64", "int32", "int8", "bool"):
        return np.zeros(shape) if variable.dtype != "int64" else rng.poisson(3, size=shape)
    if "cosine" in name or name == "grad_mean":
        return np.tanh(noise / 3)
    if name.endswith(("_fraction", "_accuracy")):
        return 1 / (1 + np.exp(-noise))
    if len(shape) == 1:
        return 2.3 / (1 + steps / 50) ** 0.5 * np.exp(0.05 * noise)
    extra = (1,) * (len(shape) - 2)
    log = -0.3 * depth[None, :] - 0.4 * np.log(steps)[:, None]
    return np.exp(log.reshape(log.shape + extra) + 0.4 * noise)


def synthetic_columns(
    n_steps: int = 50,
    n_layers: int = 11,
    *,
    steps: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, list], dict[str, list]]:
    """Return rows of each group, and the coordinates along ``param`` and ``layer``."""
    rng = np.random.default_rng(seed)
    params, layers = _network(n_layers)
    every = np.arange(1, n_steps + 1)
    recorded = every if steps is None else np.asarray(steps)
    columns = {}
    for group in (
        "training",
        "evaluation",
        "gradients",
        "second_moments",
        "updates",
        "activations",
    ):
        own = {"training": every, "evaluation": np.unique([1, n_steps // 2 or 1, n_steps])}
        rows = own.get(group, recorded)
        columns[group] = {"step": rows}
        for name, variable in schema.GROUPS[group].variables.items():
            sizes = {
                "step": len(rows),
                "param": len(params["param"]),
                "layer": len(layers["layer"]),
                "param_group": 1,
            }
            shape = tuple(sizes[dim] for dim in variable.dims)
            axis = layers if "layer" in variable.dims else params
            depth = np.array(axis["depth"], dtype=float)
            if "param_group" in variable.dims:
                values = np.full(shape, {"lr": 0.1, "alpha": -0.1, "beta2": 0.999}.get(name, 0.9))
            else:
                values = _values(variable, shape, rng, rows, depth)
            columns[group][name] = values.astype(DTYPES.get(variable.dtype, variable.dtype))
    return columns, params, layers


def root_attributes(n_steps: int) -> dict:
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "status": "finished",
        "is_complete": 1,
        "created_at": "2026-01-02T03:04:05Z",
        "creation_library": "gradscope",
        "seed": 0,
        "model_name": "plain",
        "dataset_name": "made-up",
        "optimizer_name": "SMES",
        "device": "cpu",
        "config_json": '{"alpha": -0.1, "epochs": 2}',
        "record_bytes": 1000,
        "record_seconds": 0.01 * n_steps,
    }


def synthetic_recording(
    n_steps: int = 50,
    n_layers: int = 11,
    *,
    steps: np.ndarray | None = None,
    seed: int = 0,
) -> xr.DataTree:
    """Make the tree that ``open_recording`` would give, derived norms included."""
    columns, params, layers = synthetic_columns(n_steps, n_layers, steps=steps, seed=seed)
    groups = {"/": xr.Dataset(attrs=root_attributes(n_steps))}
    for group, rows in columns.items():
        declared = schema.GROUPS[group].variables
        dataset = xr.Dataset(
            {
                name: (declared[name].dims, values, declared[name].attrs)
                for name, values in rows.items()
                if name != "step"
            },
            coords={"step": ("step", rows["step"], schema.INDEXES["step"].attrs)},
        )
        for axis, names in (("param", params), ("layer", layers)):
            if axis in dataset.dims:
                dataset = dataset.assign_coords(
                    {key: (axis, np.array(values)) for key, values in names.items()}
                )
        groups[f"/{group}"] = dataset
    updates = groups["/updates"]
    updates["update_ratio"] = updates["update_norm"] / updates["param_norm"]
    updates["update_ratio"].attrs = schema.DERIVED["updates"]["update_ratio"].attrs
    return xr.DataTree.from_dict(groups)


def write_recording(
    path: Path,
    n_steps: int = 50,
    n_layers: int = 11,
    *,
    steps: np.ndarray | None = None,
    seed: int = 0,
    ends: dict[str, int] | None = None,
    change: Callable[[dict, dict, dict], None] | None = None,
    **attributes,
) -> Path:
    """Write the same rows through the real writer.

    Groups end at the steps of ``ends``, as where a training was killed. ``change`` is called with
    the columns by group, the coordinates of parameters and of layers, before they are written.
    """
    from gradscope.store.write.writer import RecordingWriter

    columns, params, layers = synthetic_columns(n_steps, n_layers, steps=steps, seed=seed)
    if change is not None:
        change(columns, params, layers)
    attrs = root_attributes(n_steps) | {"seed": seed} | attributes
    status = attrs.pop("status")
    writer = RecordingWriter(path, attrs=attrs)
    writer.set_axis("param", params)
    writer.set_axis("layer", layers)
    for group, rows in columns.items():
        kept = np.asarray(rows.get("step", rows.get("event"))) <= (ends or {}).get(group, np.inf)
        writer.append(group, {name: np.asarray(values)[kept] for name, values in rows.items()})
    writer.close(status=status)
    return path
