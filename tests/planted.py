"""Runs on two sides with a known difference: log-normal noise over seeds, and a planted factor."""

from __future__ import annotations

import numpy as np
import xarray as xr

ALPHAS = (0.0, 0.5)


def planted_runs(
    n_seeds: int = 6,
    n_steps: int = 20,
    n_layers: int = 4,
    *,
    factor: float = 1.0,
    from_step: int = 10,
    layer: int = 2,
    noise: float = 0.1,
    rng: int = 0,
) -> xr.DataTree:
    """Return ``2 · n_seeds`` runs; those of alpha 0.5 have ``factor`` times the gradient norm.

    The factor applies to one layer from one step on. Losses fall as ``3 · exp(−step / 10)``, twice
    as fast at alpha 0.5; the final accuracy is 0.8 (0.9 at alpha 0.5) plus 0.01 · seed.
    """
    generator = np.random.default_rng(rng)
    alpha = np.repeat(ALPHAS, n_seeds)
    seed = np.tile(np.arange(n_seeds), 2)
    steps, ends = np.arange(1, n_steps + 1), np.array([0, n_steps // 2, n_steps])
    logs = noise * generator.normal(size=(2 * n_seeds, n_steps, n_layers))
    logs[n_seeds:, from_step - 1 :, layer] += np.log(factor)
    speed = np.where(alpha > 0, 2.0, 1.0)[:, None]
    along = {
        "alpha": ("run", alpha),
        "seed": ("run", seed),
        "run": [f"a{a:g}-s{s}" for a, s in zip(alpha, seed, strict=True)],
    }
    rows = {
        "param": [f"layers.{i}.weight" for i in range(n_layers)],
        "kind": ("param", ["weight"] * n_layers),
        "depth": ("param", np.arange(n_layers)),
    }
    final = 0.8 + 0.1 * (alpha > 0) + 0.01 * seed
    accuracy = final[:, None] * np.array([0.1, 0.9, 1.0])
    loss = 3 * np.exp(-speed * ends / 10)
    training = {"loss": (("run", "step"), 3 * np.exp(-speed * steps / 10))}
    evaluation = {"val_accuracy": (("run", "step"), accuracy), "val_loss": (("run", "step"), loss)}
    grad_norm = xr.Variable(("run", "step", "param"), np.exp(logs), {"long_name": "gradient norm"})
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(coords=along, attrs={"status": "finished", "epochs": 2}),
            "/training": xr.Dataset(training, coords={"step": steps, **along}),
            "/evaluation": xr.Dataset(evaluation, coords={"step": ends, **along}),
            "/gradients": xr.Dataset(
                {"grad_norm": grad_norm}, coords={"step": steps, **along, **rows}
            ),
        }
    )
