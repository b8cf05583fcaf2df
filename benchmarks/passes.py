"""Time of the recorder's compiled passes alone, over the time to move their bytes once.

    uv run python -m benchmarks.passes

Over the tensors of a ResNet-50 for ten classes, out of any training: what the passes of
`benchmarks.groups` cost without hooks, rows and cold caches. A pass that writes a copy moves a
third more than its floor says, since a processor reads a line before it writes to it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.recorder import bandwidth
from benchmarks.tables import about_machine, in_words, table, write
from benchmarks.workloads import WORKLOADS
from gradscope.record.measure.cpu.backend import CompiledBackend
from gradscope.record.measure.reference.sums import PARAM_SUMS

N_CALLS = 25


def milliseconds(call: Callable[[], None]) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(N_CALLS):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(times)


def measure() -> dict[str, tuple[float, float]]:
    """Return milliseconds and megabytes of each pass."""
    params = [p.detach() for p in WORKLOADS["W3"]().model.parameters()]
    grads = [1e-3 * torch.randn_like(p) for p in params]
    copies = [torch.empty_like(p) for p in params]
    v, m = [g.square() + 1e-12 for g in grads], [0.1 * g for g in grads]
    rows, backend = list(range(len(params))), CompiledBackend()
    out = torch.zeros(len(rows), len(PARAM_SUMS), dtype=torch.float64)
    below = torch.zeros(len(rows), dtype=torch.float64)
    above = torch.full_like(below, 1e9)
    passes: dict[str, tuple[int, Callable[[], None]]] = {
        "gradients": (2, lambda: backend.gradients(out, rows, grads, params, [])),
        "gradients, with a copy of the parameters": (
            3,
            lambda: backend.gradients(out, rows, grads, params, copies),
        ),
        "second moments": (2, lambda: backend.moments(out, rows, v, m, below, above)),
        "updates": (3, lambda: backend.updates(out, rows, copies, params, grads)),
        "a copy by torch, for comparison": (2, lambda: torch._foreach_copy_(copies, params)),
    }
    megabytes = 4e-6 * sum(p.numel() for p in params)
    return {name: (milliseconds(call), n * megabytes) for name, (n, call) in passes.items()}


def main() -> None:
    """Measure, print the table, and write it under ``benchmarks/results/``."""
    load, speed, found = os.getloadavg()[0], bandwidth(), measure()
    about = about_machine(read_GB_per_s=speed / 1e9) | {"load": load}
    rows = (
        (name, f"{ms:.1f}", f"{mb:.0f}", f"{ms / (1e9 * mb / speed):.2f}")
        for name, (ms, mb) in found.items()
    )
    lines = [
        "# The compiled passes alone",
        "",
        f"`python -m benchmarks.passes`; ResNet-50's tensors; median of {N_CALLS} calls; "
        f"{in_words(about)} Floors: time over that of moving the bytes once.",
        "",
        *table("pass | ms | MB | floors", rows),
    ]
    write("passes-cpu", lines, {"about": about, "passes": found})


if __name__ == "__main__":
    main()
