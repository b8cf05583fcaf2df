"""Cost of recording: step time relative to the bare step, beside other tools.

    uv run python -m benchmarks.recorder [--works W1 "W2 SMES" …] [--rivals …] [--blocks 30]

Each rival is timed in blocks that take turns with bare blocks of the same training; the ratio of
each pair is one observation. Printed: the median ratio with a bootstrap 95 % interval, the added
milliseconds, and their multiple of the byte floor: reading gradient, parameter, both moments and
the updated parameter once and writing one copy, at the bandwidth measured in the same run.
TensorBoard and W&B (offline) are timed where they are installed. Every rival has its own pairs, so
that works and rivals may be measured in several calls.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import gradscope
from benchmarks.tables import RESULTS, about_machine, in_words, table, write
from benchmarks.workloads import WORKLOADS, Workload

TABLE = RESULTS / "recorder-cpu.json"
After = Callable[[torch.Tensor], None]
"""Function that a rival calls after each step, with the loss."""


@contextlib.contextmanager
def gradscope_recorder(work: Workload, folder: Path, **options: object) -> Iterator[After]:
    """Our recorder, at every step."""
    with gradscope.Recorder(work.model, work.optimizer, folder / "run.h5", every=1, **options) as r:
        yield lambda loss: r.log(loss=loss)


@contextlib.contextmanager
def hand_written(work: Workload, folder: Path) -> Iterator[After]:
    """Five statistics in a loop over parameters, as people write it."""
    rows = []

    def after(loss: torch.Tensor) -> None:
        row = {"loss": loss.item()}
        for name, p in work.model.named_parameters():
            g = p.grad
            v = work.optimizer.state[p]["exp_avg_sq"]
            row[name] = [x.item() for x in (g.norm(), g.mean(), g.std(), g.abs().max(), v.norm())]
        rows.append(row)

    yield after
    (folder / "rows.json").write_text(json.dumps(rows))


@contextlib.contextmanager
def foreach_style(work: Workload, folder: Path) -> Iterator[After]:
    """Seven norms of every tensor by torch's foreach operators, read at once."""
    rows = []
    params = list(work.model.parameters())
    before = [p.detach().clone() for p in params]

    def after(loss: torch.Tensor) -> None:
        states = [work.optimizer.state[p] for p in params]
        grads, now = [p.grad for p in params], [p.detach() for p in params]
        updates = torch._foreach_sub(now, before)
        torch._foreach_copy_(before, now)
        moments = [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq")]
        norms = [torch._foreach_norm(t) for t in (grads, now, updates, *moments)]
        norms += [torch._foreach_norm(t, math.inf) for t in (grads, updates)]
        rows.append([loss.item(), torch.stack([n for of in norms for n in of]).tolist()])

    yield after
    (folder / "rows.json").write_text(json.dumps(rows))


@contextlib.contextmanager
def composer_style(work: Workload, folder: Path) -> Iterator[After]:
    """Norms of gradient, moment, parameter and recomputed update, one number at a time."""
    rows = []

    def after(loss: torch.Tensor) -> None:
        row = {"loss": loss.item()}
        group = work.optimizer.param_groups[0]
        for name, p in work.model.named_parameters():
            state = work.optimizer.state[p]
            update = group["lr"] * state["exp_avg"] / (state["exp_avg_sq"].sqrt() + group["eps"])
            tensors = (p.grad, state["exp_avg"], state["exp_avg_sq"], p, update)
            row[name] = [torch.linalg.vector_norm(t).item() for t in tensors]
        rows.append(row)

    yield after
    (folder / "rows.json").write_text(json.dumps(rows))


@contextlib.contextmanager
def tensorboard_histograms(work: Workload, folder: Path) -> Iterator[After]:
    """A gradient histogram of every parameter."""
    from torch.utils.tensorboard import SummaryWriter

    writer, step = SummaryWriter(str(folder)), 0

    def after(loss: torch.Tensor) -> None:
        nonlocal step
        step += 1
        writer.add_scalar("loss", loss.item(), step)
        for name, p in work.model.named_parameters():
            writer.add_histogram(name, p.grad, step)

    yield after
    writer.close()


@contextlib.contextmanager
def wandb_watch(work: Workload, folder: Path) -> Iterator[After]:
    """``wandb.watch(log="all", log_freq=1)``, offline."""
    import wandb

    settings = wandb.Settings(silent=True, console="off")
    run = wandb.init(mode="offline", dir=str(folder), project="benchmark", settings=settings)
    run.watch(work.model, log="all", log_freq=1)
    yield lambda loss: run.log({"loss": loss.item()})
    run.unwatch(work.model)
    run.finish()


def _light(work: Workload, folder: Path) -> contextlib.AbstractContextManager[After]:
    return gradscope_recorder(work, folder, record="light")


def _moments(work: Workload, folder: Path) -> contextlib.AbstractContextManager[After]:
    return gradscope_recorder(work, folder, record=("gradients", "second_moments", "updates"))


RIVALS = {
    "gradscope standard": gradscope_recorder,
    "gradscope light": _light,
    "gradscope gradients, moments, updates": _moments,
    "hand-written, 5 statistics": hand_written,
    "hand-written foreach, 7 statistics": foreach_style,
    "Composer-style norms": composer_style,
    "TensorBoard histograms": tensorboard_histograms,
    "wandb.watch": wandb_watch,
}
NEEDS = {"TensorBoard histograms": "tensorboard", "wandb.watch": "wandb"}


def seconds_a_step(work: Workload, after: After | None) -> float:
    """Time one block."""
    began = time.perf_counter()
    for _ in range(work.n_steps):
        loss = work.step()
        if after is not None:
            after(loss)
    return (time.perf_counter() - began) / work.n_steps


def pairs(work: Workload, rival: Callable[..., object], n_blocks: int) -> np.ndarray:
    """Return (block, 2): seconds of a bare step and of one with the rival."""
    times = []
    for _ in range(n_blocks):
        bare = seconds_a_step(work, None)
        with tempfile.TemporaryDirectory() as folder, rival(work, Path(folder)) as after:
            for _ in range(work.n_steps):  # the first steps after attaching take longer
                after(work.step())
            times.append((bare, seconds_a_step(work, after)))
    return np.array(times)


def bandwidth() -> float:
    """Bytes a second of reading: a dot product of two large vectors, best of 20."""
    a, b = torch.ones(2, 25_000_000)
    best = math.inf
    for _ in range(20):
        began = time.perf_counter()
        torch.dot(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * a.nbytes / best


def summarize(times: np.ndarray, floor: float) -> dict[str, float]:
    """Median ratio with interval, added time, multiple of the floor."""
    ratio = times[:, 1] / times[:, 0]
    draws = np.random.default_rng(0).choice(ratio, (4000, len(ratio)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    added = float(np.median(times[:, 1] - times[:, 0]))
    return {
        "bare_ms": 1e3 * float(np.median(times[:, 0])),
        "ratio": float(np.median(ratio)),
        "low": float(low),
        "high": float(high),
        "added_ms": 1e3 * added,
        "floors": added / floor,
        "blocks": len(ratio),
    }


def main() -> None:
    """Measure, print the table, and write it under ``benchmarks/results/``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--works", nargs="+", default=["W1", "W2", "W3"], choices=WORKLOADS)
    parser.add_argument("--rivals", nargs="+", default=list(RIVALS), choices=RIVALS)
    parser.add_argument("--blocks", type=int, default=30)
    arguments = parser.parse_args()
    load, speed, results = os.getloadavg()[0], bandwidth(), {}
    print(f"reading {speed / 1e9:.1f} GB/s, {torch.get_num_threads()} threads")
    for name in arguments.works:
        work = WORKLOADS[name]()
        for _ in range(3):
            work.step()
        floor = 6 * 4 * work.n_params / speed
        for rival in arguments.rivals:
            needed = NEEDS.get(rival)
            if needed and importlib.util.find_spec(needed) is None:
                print(f"{name}  {rival:38} not timed: {needed} is not installed")
                continue
            r = summarize(pairs(work, RIVALS[rival], arguments.blocks), floor)
            r["read_GB_per_s"] = speed / 1e9
            results[f"{name}: {rival}"] = r
            print(
                f"{name}  {rival:38} {r['ratio']:.3f} [{r['low']:.3f}, {r['high']:.3f}] of "
                f"{r['bare_ms']:.2f} ms; +{r['added_ms']:.2f} ms, {r['floors']:.1f} floors",
                flush=True,
            )
    about = about_machine(read_GB_per_s=speed / 1e9) | {"load": load}
    known = json.loads(TABLE.read_text())["results"] if TABLE.exists() else {}
    known = dict(sorted((known | results).items()))
    write(TABLE.stem, page(about, known), {"about": about, "results": known})


def page(about: dict[str, object], results: dict[str, dict[str, float]]) -> list[str]:
    """Return the lines that people read."""
    return [
        "# What recording costs",
        "",
        "Step time over the bare step (fused Adam, or SMES at alpha -0.2 where it says so), every "
        "step recorded: median over pairs of blocks with a bootstrap 95 % interval. A floor reads "
        "gradient, parameter, both moments and the updated parameter once and writes one copy. "
        "Rows come from several calls, and may come from several machines: the last column, what "
        "the machine read, tells them apart.",
        "",
        f"Last call: {in_words(about)}",
        "",
        *table(
            "work: rival | ratio | interval | bare ms | added ms | floors | blocks | reading GB/s",
            ([name, *_cells(r)] for name, r in results.items()),
        ),
    ]


def _cells(r: dict[str, float]) -> list[str]:
    ratio = [f"{r['ratio']:.2f}", f"{r['low']:.2f}–{r['high']:.2f}"]
    times = [f"{r[key]:.1f}" for key in ("bare_ms", "added_ms", "floors")]
    return [*ratio, *times, str(r["blocks"]), f"{r['read_GB_per_s']:.0f}"]


if __name__ == "__main__":
    main()
