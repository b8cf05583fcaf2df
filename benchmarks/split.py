"""What the cost of recording is made of: torch's hooks, our Python, the passes, colder caches.

    uv run python -m benchmarks.split [--works W1 W2 W3] [--blocks 16]

Four kinds of blocks take turns with bare blocks of the same training, every step recorded:

hooks
    as many hooks as the recorder sets, all of them empty;
python
    the recorder with compiled passes that return at once;
whole
    the recorder as it is, and the time that its compiled passes took meanwhile.

What "python" takes beyond "hooks" is our own Python. What "whole" takes beyond "python" and beyond
its passes is the training itself, which finds less of its data in the caches.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from benchmarks.groups import STREAMS, output_bytes
from benchmarks.recorder import After, bandwidth, gradscope_recorder, pairs, summarize
from benchmarks.tables import about_machine, in_words, table, write
from benchmarks.workloads import WORKLOADS, Workload
from gradscope.native.threads import Threads

WORKS = {name: WORKLOADS[name] for name in ("W1", "W2", "W3")}


@contextlib.contextmanager
def empty_hooks(work: Workload, _folder: Path) -> Iterator[After]:
    """Hooks that do nothing, at the places where the recorder has its own."""

    def before(_module: nn.Module, _args: Any) -> None:
        return None

    def grad(_grad: Tensor) -> None:
        return None

    def after(_module: nn.Module, _args: Any, _kwargs: Any, output: Tensor) -> None:
        output.register_hook(grad)

    def step(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        return None

    handles = [
        torch_module.register_module_forward_pre_hook(before),
        torch_module.register_module_forward_hook(after, with_kwargs=True),
        work.optimizer.register_step_pre_hook(step),
        work.optimizer.register_step_post_hook(step),
    ]
    yield lambda _loss: None
    for handle in handles:
        handle.remove()


@contextlib.contextmanager
def without_passes(work: Workload, folder: Path) -> Iterator[After]:
    """Our recorder with compiled passes that return at once; what it writes is meaningless."""
    with gradscope_recorder(work, folder) as after:  # it tries its passes when it is attached
        after(work.step())
        with mock.patch.object(Threads, "run", lambda *_: None):
            yield after


class PassTimes:
    """Seconds of the compiled passes of each block."""

    def __init__(self) -> None:
        self.blocks: list[float] = []

    @contextlib.contextmanager
    def whole(self, work: Workload, folder: Path) -> Iterator[After]:
        """Our recorder, its passes timed; steps before the timed block are not counted."""
        run, times = Threads.run, []

        def timed(*args: Any) -> None:
            began = time.perf_counter()
            run(*args)
            times.append(time.perf_counter() - began)

        n_steps = 0

        def counted(loss: Tensor, after: After) -> None:
            nonlocal n_steps
            n_steps += 1
            after(loss)
            if n_steps == work.n_steps:
                times.clear()

        with mock.patch.object(Threads, "run", timed), gradscope_recorder(work, folder) as after:
            yield functools.partial(counted, after=after)
            self.blocks.append(sum(times) / work.n_steps)


def split(work: Workload, n_blocks: int, speed: float) -> dict[str, float]:
    """Return the milliseconds of a step and of each part that recording adds to it."""
    passes = PassTimes()
    rivals: dict[str, Callable[..., Any]] = {
        "hooks": empty_hooks,
        "python": without_passes,
        "whole": passes.whole,
    }
    found = {name: summarize(pairs(work, rival, n_blocks), 1.0) for name, rival in rivals.items()}
    n_bytes = 4 * work.n_params * (sum(STREAMS.values()) - 1) + 2 * output_bytes(work)
    added = {name: row["added_ms"] for name, row in found.items()}
    in_passes = 1e3 * sorted(passes.blocks)[n_blocks // 2]
    return {
        "bare": found["whole"]["bare_ms"],
        "whole": added["whole"],
        "hooks": added["hooks"],
        "python": added["python"] - added["hooks"],
        "passes": in_passes,
        "caches": added["whole"] - added["python"] - in_passes,
        "bytes": 1e3 * n_bytes / speed,
        "MB": 1e-6 * n_bytes,
    }


def main() -> None:
    """Measure, print the table, and write it under ``benchmarks/results/``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--works", nargs="+", default=list(WORKS), choices=WORKS)
    parser.add_argument("--blocks", type=int, default=16)
    arguments = parser.parse_args()
    load, speed = os.getloadavg()[0], bandwidth()
    results = {}
    for name in arguments.works:
        work = WORKS[name]()
        for _ in range(3):
            work.step()
        results[name] = split(work, arguments.blocks, speed)
        print(name, {key: round(value, 2) for key, value in results[name].items()}, flush=True)
    about = about_machine(read_GB_per_s=speed / 1e9) | {"load": load}
    columns = "work | bare step | added | hooks | our Python | passes | caches | bytes | MB"
    keys = ("bare", "whole", "hooks", "python", "passes", "caches", "bytes")
    lines = [
        "# What the cost of recording is made of",
        "",
        '`python -m benchmarks.split`: milliseconds of a step, "standard" recorded at every step; '
        f"medians over {arguments.blocks} pairs of blocks. Hooks: empty ones at the same places. "
        "Our Python: what it takes beyond, with passes that return at once. Passes: the compiled "
        "ones, timed within the training. Caches: what is left, a training that finds less of "
        "its data in the caches. Bytes: the time to read what the passes read, once, at the "
        "bandwidth of this run.",
        "",
        in_words(about),
        "",
        *table(
            columns,
            ([n, *(f"{r[key]:.2f}" for key in keys), f"{r['MB']:.0f}"] for n, r in results.items()),
        ),
    ]
    write("split-cpu", lines, {"about": about, "results": results})


if __name__ == "__main__":
    main()
