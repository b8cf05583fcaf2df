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
import os

from torch import Tensor, nn

from benchmarks.recorder import bandwidth, gradscope_recorder, pairs, summarize
from benchmarks.tables import about_machine, in_words, table, write
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
    load, speed, results = os.getloadavg()[0], bandwidth(), {}
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
            print(f"{name}: {group}", *_cells(results[f"{name}: {group}"]), flush=True)
    about = about_machine(read_GB_per_s=speed / 1e9) | {"load": load}
    write("groups-cpu", page(about, results), {"about": about, "results": results})


def _cells(r: dict[str, float]) -> list[str]:
    each = f"{1e3 * r['added_ms'] / r['n_tensors']:.1f}"
    ratio = [f"{r['ratio']:.2f}", f"{r['low']:.2f}–{r['high']:.2f}"]
    return [*ratio, f"{r['added_ms']:.2f}", f"{r['MB']:.1f}", f"{r['floors']:.1f}", each]


def page(about: dict[str, object], results: dict[str, dict[str, float]]) -> list[str]:
    """Return the lines that people read."""
    return [
        "# What each group of a recording costs",
        "",
        "Step time over the bare step (fused Adam) with one group recorded at every step: median "
        "over pairs of blocks with a bootstrap 95 % interval. Floors: added time over the time to "
        "move the group's bytes once. Every row has the pass over gradients in it, which the total "
        "gradient norm needs, and the cost of a row. Many: 1,000 linear layers of width 16.",
        "",
        in_words(about),
        "",
        *table(
            "work: group | ratio | interval | added ms | MB | floors | µs a tensor",
            ([name, *_cells(r)] for name, r in results.items()),
        ),
    ]


if __name__ == "__main__":
    main()
