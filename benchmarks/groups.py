"""Cost of each group of a recording, as a multiple of its byte floor, and of each tensor and hook.

    uv run python -m benchmarks.groups [--works W1 W2 W3 Many] [--blocks 12]

Every group is recorded alone, at every step, in blocks that take turns with bare blocks of the same
training. The byte floor is the time to move what the group must read and write once, at the reading
bandwidth measured in the same run. "Many" is a chain of 1,000 small linear layers, 2,000 tensors,
where bytes cost nothing: what remains is the cost of a tensor and of a hook.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.recorder import bandwidth, gradscope_recorder, pairs, summarize
from benchmarks.workloads import WORKLOADS, Workload, many_tensors

GROUPS = ("gradients", "second_moments", "updates", "activations")
STREAMS = {"gradients": 2, "second_moments": 2, "updates": 5}
"""Passes over all parameters: gradient and parameter; both moments; parameter to copy, then copy,
new parameter and gradient."""


def output_bytes(work: Workload) -> int:
    """Bytes of all layer outputs of one step."""
    sizes: list[int] = []

    def see(_module: nn.Module, _args: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.nbytes)

    leaves = [m for m in work.model.modules() if not list(m.children())]
    handles = [m.register_forward_hook(see) for m in leaves]
    work.step()
    for handle in handles:
        handle.remove()
    return sum(sizes)


def floor_bytes(work: Workload, group: str) -> int:
    """Bytes that a group must move in each step; outputs and their gradients are read once each."""
    if group == "activations":
        return 2 * output_bytes(work)
    return STREAMS[group] * 4 * work.n_params


def main() -> None:
    """Measure, print the table, and write it under ``benchmarks/results/``."""
    works = {name: WORKLOADS[name] for name in ("W1", "W2", "W3")} | {"Many": many_tensors}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--works", nargs="+", default=list(works), choices=works)
    parser.add_argument("--blocks", type=int, default=12)
    arguments = parser.parse_args()
    speed, results = bandwidth(), {}
    for name in arguments.works:
        work = works[name]()
        for _ in range(3):
            work.step()
        for group in GROUPS:
            n_bytes = floor_bytes(work, group)
            rival = functools.partial(gradscope_recorder, record=(group,))
            row = summarize(pairs(work, rival, arguments.blocks), n_bytes / speed)
            n_tensors = len(list(work.model.parameters()))
            results[f"{name}: {group}"] = row | {"MB": n_bytes / 1e6, "n_tensors": n_tensors}
            print(f"{name}: {group:16} {_cells(results[f'{name}: {group}'])}", flush=True)
    about = {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
        "read_GB_per_s": speed / 1e9,
    }
    write(about, results)


def _cells(r: dict[str, float]) -> str:
    ratio = f"{r['ratio']:.2f} | {r['low']:.2f}–{r['high']:.2f}"
    each = f"{1e3 * r['added_ms'] / r['n_tensors']:.1f}"
    return f"{ratio} | {r['added_ms']:.2f} | {r['MB']:.1f} | {r['floors']:.1f} | {each}"


def write(about: dict[str, object], results: dict[str, dict[str, float]]) -> None:
    """Write the results as JSON and as the table that people read."""
    out = Path(__file__).parent / "results" / "groups-cpu.json"
    out.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
    lines = [
        "# What each group of a recording costs",
        "",
        "Step time over the bare step (fused Adam) with one group recorded at every step: median "
        "over pairs of blocks with a bootstrap 95 % interval. Floors: added time over the time to "
        "move the group's bytes once. Every row has the pass over gradients in it, which the total "
        "gradient norm needs, and the cost of a row. Many: 1,000 linear layers of width 16.",
        "",
        f"{about['machine']}, {about['threads']} threads, torch {about['torch']}, "
        f"reading {about['read_GB_per_s']:.0f} GB/s, load {about['load']:.1f}.",
        "",
        "| work: group | ratio | interval | added ms | MB | floors | µs a tensor |",
        "|---|---:|---|---:|---:|---:|---:|",
        *(f"| {name} | {_cells(r)} |" for name, r in results.items()),
    ]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
