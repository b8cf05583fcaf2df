"""Time of one optimizer step, as a ratio to torch's fused Adam, on ResNet-50's parameters.

    python -m benchmarks.optimizers [--device cuda] [--threads 2] [--rounds 15]

Every case has parameters of its own; the cases take turns, so that a busy moment meets all of them.
Where `pytorch_optimizer` is installed, its Padam takes part beside the foreach one written here.
Prints a table and writes benchmarks/results/optimizers-<device>.json and .md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torchvision.models import resnet50

from gradscope import SMES

RESULTS = Path(__file__).parent / "results"
ALPHAS = (-1.0, -0.3, -0.1, 0.0, 0.1, 0.25, 0.75, 1.0)
FOREACH_ALPHAS = (-0.3, 0.1)


class Padam(torch.optim.Optimizer):
    """Padam (arXiv:1806.06763) through torch's foreach operators, without a running maximum."""

    def __init__(self, params, lr=1e-3, partial=0.125):
        super().__init__(params, {"lr": lr, "partial": partial})

    @torch.no_grad()
    def step(self):
        (group,) = self.param_groups
        params = group["params"]
        grads = [p.grad for p in params]
        if not self.state:
            for p in params:
                self.state[p] = {"m": torch.zeros_like(p), "v": torch.zeros_like(p), "step": 0}
        ms, vs = ([self.state[p][key] for p in params] for key in ("m", "v"))
        self.state[params[0]]["step"] += 1
        step = self.state[params[0]]["step"]
        torch._foreach_lerp_(ms, grads, 0.1)
        torch._foreach_mul_(vs, 0.999)
        torch._foreach_addcmul_(vs, grads, grads, value=0.001)
        denominators = torch._foreach_sqrt(vs)
        torch._foreach_add_(denominators, 1e-8)
        torch._foreach_pow_(denominators, 2 * group["partial"])
        size = group["lr"] * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
        torch._foreach_addcdiv_(params, ms, denominators, value=-size)


def parameters(device: str) -> list[torch.nn.Parameter]:
    """ResNet-50's parameters with gradients of a usual size."""
    params = [torch.nn.Parameter(p.detach().to(device)) for p in resnet50().parameters()]
    for p in params:
        p.grad = 1e-3 * torch.randn_like(p)
    return params


def cases(device: str, compiled: bool) -> dict[str, Callable[[], object]]:
    """Name -> step."""
    adam = torch.optim.Adam
    made = {
        "torch Adam, fused": adam(parameters(device), fused=True).step,
        "torch Adam, foreach": adam(parameters(device), foreach=True).step,
        "torch Adam, loop": adam(parameters(device), foreach=False).step,
        "Padam, foreach": Padam(parameters(device)).step,
        "SMES alpha 0.5": SMES(parameters(device)).step,
        "SMES alpha 0.5, foreach": SMES(parameters(device), foreach=True).step,
    }
    with contextlib.suppress(ImportError):
        from pytorch_optimizer import PAdam

        made["Padam, pytorch_optimizer"] = PAdam(parameters(device)).step
    for alpha in ALPHAS:
        made[f"SMES alpha {alpha}"] = SMES(parameters(device), alpha=alpha).step
    for decoupled in (False, True):
        name = "decoupled" if decoupled else "coupled"
        options = {"weight_decay": 0.01, "decoupled_weight_decay": decoupled}
        made[f"SMES alpha -0.3, {name} decay"] = SMES(
            parameters(device), alpha=-0.3, **options
        ).step
    for alpha in FOREACH_ALPHAS:
        of_foreach = SMES(parameters(device), alpha=alpha, foreach=True)
        made[f"SMES alpha {alpha}, foreach"] = of_foreach.step
    made["SMES alpha -0.3, loop"] = SMES(
        parameters(device), alpha=-0.3, foreach=False, fused=False
    ).step
    if compiled:
        step = SMES(parameters(device), alpha=-0.3).step
        made["SMES alpha -0.3, torch.compile"] = torch.compile(step)
    return made


def measure(steps: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each step, the cases taking turns after two rounds of warming up."""
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 2):
        for name, step in steps.items():
            synchronize()
            start = time.perf_counter()
            step()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[2:]) for name, values in seconds.items()}


def report(seconds: dict[str, float], note: str) -> str:
    """A table of milliseconds and ratios to the first case."""
    base = next(iter(seconds.values()))
    lines = [f"# Optimizer step\n\n{note}\n", "| case | ms | ratio |", "|---|---:|---:|"]
    lines += [f"| {n} | {1e3 * s:.1f} | {s / base:.2f} |" for n, s in seconds.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0]
    steps = cases(arguments.device, not arguments.no_compile)
    seconds = measure(steps, arguments.rounds, arguments.device)
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine()
    note = (
        f"ResNet-50's 25.6 M parameters, float32; {name}, {arguments.threads} threads, "
        f"torch {torch.__version__}; median of {arguments.rounds}; "
        f"load of the machine before: {load:.1f}."
    )
    if load > 0.5:
        note += " **The machine was busy: these numbers are provisional.**"
    table = report(seconds, note)
    print(table)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"optimizers-{arguments.device}"
    path.with_suffix(".md").write_text(table, encoding="utf-8")
    content = {"note": note, "load": load, "threads": arguments.threads, "seconds": seconds}
    path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
