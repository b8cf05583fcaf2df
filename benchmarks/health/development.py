"""The runs that the thresholds of the health rules were set on."""

from __future__ import annotations

from benchmarks.health.loops import Case, Loop, adam, adamw, builtin, own
from benchmarks.health.models import PostNormTransformer

_PLAIN = {"model": "plain", "units": 64, "batch_norm": False}
_TANH = {**_PLAIN, "activation": "tanh", "bias": True, "depth": 20, "alpha": 0.0}
_ZIPF = {"dataset": "zipf", "context": 32, "n_tokens": 50_000, "batch_size": 32, "n_classes": 32}


def development() -> list[Case]:
    """Return what the thresholds were set on: calm runs of two seeds, and planted faults."""
    return [case for seed in (1000, 1001) for case in calm(seed)] + faults()


def calm(seed: int) -> list[Case]:
    """Return runs in which no rule should fire."""
    return [
        builtin(f"vgg13 sgd {seed}", model="vgg13", width=0.125, alpha=0.0, lr=0.3, seed=seed),
        builtin(f"vgg13 adam {seed}", model="vgg13", width=0.125, alpha=0.5, lr=1e-3, seed=seed),
        builtin(
            f"vgg16 synthetic {seed}",
            model="vgg16",
            width=0.125,
            dataset="synthetic",
            snr=1.0,
            batch_size=32,
            augment=False,
            lr_schedule="cosine",
            alpha=-0.1,
            lr=0.05,
            seed=seed,
        ),
        own(
            f"post-norm transformer, warm-up {seed}",
            Loop(lambda: PostNormTransformer(6), adamw(2e-3), warmup=40),
            seed=seed,
        ),
        builtin(f"resnet20 {seed}", model="resnet20", width=0.25, alpha=0.0, lr=0.3, seed=seed),
        builtin(
            f"plain norm {seed}",
            **{**_PLAIN, "batch_norm": True},
            depth=10,
            alpha=0.0,
            lr=0.3,
            seed=seed,
        ),
        builtin(f"plain He {seed}", **_PLAIN, depth=6, alpha=0.5, lr=1e-3, seed=seed),
        builtin(
            f"transformer {seed}",
            model="transformer",
            depth=2,
            units=32,
            **_ZIPF,
            alpha=0.5,
            lr=3e-3,
            seed=seed,
        ),
        builtin(
            f"squeezenet {seed}",
            model="torchvision.squeezenet1_1",
            alpha=0.5,
            lr=1e-3,
            seed=seed,
        ),
    ]


def faults() -> list[Case]:
    """Return runs with a fault of each kind."""
    return [
        builtin("tanh, gain 0.5", "vanishing gradients", **_TANH, gain=0.5, lr=0.3),
        builtin("tanh, gain 8", "exploding gradients", **_TANH, gain=8.0, lr=1e-3),
        builtin(
            "vgg13, lr 100",
            "learning rate too high",
            model="vgg13",
            width=0.125,
            alpha=0.0,
            lr=100.0,
        ),
        builtin(
            "plain, Adam lr 0.3", "learning rate too high", **_PLAIN, depth=6, alpha=0.5, lr=0.3
        ),
        builtin(
            "vgg13, lr 1e-5",
            "learning rate too low",
            model="vgg13",
            width=0.125,
            alpha=0.0,
            lr=1e-5,
        ),
        builtin("plain, gain 3", "bad init", **_PLAIN, depth=10, gain=3.0, alpha=0.5, lr=1e-3),
        builtin("plain, gain 0.3", "bad init", **_PLAIN, depth=10, gain=0.3, alpha=0.5, lr=1e-3),
        builtin(
            "transformer, lr 0.1",
            "transformer without warm-up",
            model="transformer",
            depth=4,
            units=32,
            **_ZIPF,
            alpha=0.5,
            lr=0.1,
        ),
        own(
            "post-norm transformer",
            Loop(lambda: PostNormTransformer(12), adam(3e-3)),
            seed=0,
            rule="transformer without warm-up",
        ),
    ]
