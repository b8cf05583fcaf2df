"""Cost of recording on a GPU: VGG13, batch 128, bfloat16 autocast, eager and as a CUDA graph.

    uv run python -m benchmarks.cuda_recorder [--blocks 30] [--steps 50]

First asserts with torch's profiler that no recorded step waits for the device. Then three trainings
of the same net take turns, block by block: bare, with the parameter streams (gradients, updates,
second moments) at every step, and with activations too; "activations every tenth" is computed as
0.9 of the second and 0.1 of the third. Last, each kernel alone in a graph, as a multiple of its
byte floor: each tensor read or written once at the bandwidth of a large copy, measured in the
same run.
Prints tables and writes benchmarks/results/recorder-cuda.json and .md. ``--device cpu`` tries the
eager part, for nobody's numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import gradscope
from benchmarks.cuda_kernels import Training, capture, kernel_table, make_training

RESULTS = Path(__file__).parent / "results"
STREAMS = ("gradients", "updates", "second_moments")
CASES: dict[str, tuple[str, ...]] = {
    "bare": (),
    "streams": STREAMS,
    "everything": (*STREAMS, "activations"),
}
WAITS = {"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpy"}
EVENT_MICROSECONDS = 20
"""Buffers are read when their copy is known to be done: a wait for such an event is shorter."""


@contextlib.contextmanager
def recorded(
    training: Training, groups: tuple[str, ...], folder: Path, *, is_graph: bool
) -> Iterator[Callable[[], object]]:
    """Give the step of a training under a recorder of these groups, if any."""
    with contextlib.ExitStack() as stack:
        recorder = None
        if groups:
            made = gradscope.Recorder(
                training.model,
                training.optimizer,
                folder / "run.h5",
                every=1,
                record=set(groups),
                if_exists="overwrite",
            )
            recorder = stack.enter_context(made)
        if not is_graph:
            yield training.step
            return
        graph = capture(training.step)

        def replay() -> None:
            graph.replay()
            if recorder is not None:
                recorder.advance()

        yield replay


def wait(device: str) -> None:
    """Let the device finish, where there is one."""
    if device == "cuda":
        torch.cuda.synchronize()


def time_block(step: Callable[[], object], n: int, device: str) -> float:
    """Seconds a step, from an idle device to an idle device."""
    wait(device)
    began = time.perf_counter()
    for _ in range(n):
        step()
    wait(device)
    return (time.perf_counter() - began) / n


def find_waits(step: Callable[[], object], n: int = 70) -> list[str]:
    """Profile steps, enough for full buffers to leave, and name the calls that wait or may."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    wait("cuda")
    with torch.profiler.profile(activities=activities) as profile:
        with torch.profiler.record_function("steps"):
            for _ in range(n):
                step()
    events = profile.events()
    span = next(e.time_range for e in events if e.name == "steps")
    inside = [e for e in events if span.start <= e.time_range.start <= span.end]
    return [e.name for e in inside if _waits(e.name, e.time_range.elapsed_us())]


def _waits(name: str, microseconds: float) -> bool:
    if name == "cudaEventSynchronize":
        return microseconds > EVENT_MICROSECONDS
    return name in WAITS or ("Memcpy" in name and "Pageable" in name)


def assert_no_waits(step: Callable[[], object], name: str, n_warm: int = 5) -> None:
    """Check with the profiler, and with torch's own guard, that the host never waits."""
    for _ in range(n_warm):
        step()
    found = find_waits(step)
    if found:
        raise SystemExit(f"{name}: the host waited for the device {len(found)} times: {set(found)}")
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def compare(
    device: str, batch: int, n_blocks: int, n_steps: int, *, is_graph: bool
) -> dict[str, np.ndarray]:
    """Seconds a step of each case, (block,); the cases take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    with contextlib.ExitStack() as stack:
        steps = {}
        for name, groups in CASES.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            training = make_training(device, batch)
            entered = recorded(training, groups, folder, is_graph=is_graph)
            steps[name] = stack.enter_context(entered)
            if device == "cuda" and groups:
                assert_no_waits(steps[name], f"{name}, {'graph' if is_graph else 'eager'}")
        for step in steps.values():
            time_block(step, n_steps, device)
        for _ in range(n_blocks):
            for name, step in steps.items():
                seconds[name].append(time_block(step, n_steps, device))
    return {name: np.array(values) for name, values in seconds.items()}


def ratios(seconds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Ratios to the bare block of the same turn."""
    tenth = 0.9 * seconds["streams"] + 0.1 * seconds["everything"]
    bare = seconds["bare"]
    return {
        "parameter streams": seconds["streams"] / bare,
        "streams, activations every tenth": tenth / bare,
        "streams and activations": seconds["everything"] / bare,
    }


def upper_bound(values: np.ndarray, n_resamples: int = 5000) -> float:
    """Upper end of the bootstrap 95 % interval of the median."""
    picks = np.random.default_rng(0).integers(0, len(values), (n_resamples, len(values)))
    return float(np.quantile(np.median(values[picks], axis=1), 0.975))


def ratio_table(measured: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """Rows of step times and ratios."""
    lines = ["| loop | case | ms | ratio | upper 95 % |", "|---|---|---:|---:|---:|"]
    for loop, seconds in measured.items():
        lines.append(f"| {loop} | bare | {1e3 * np.median(seconds['bare']):.3f} | 1 | |")
        for name, ratio in ratios(seconds).items():
            ms = 1e3 * np.median(ratio) * np.median(seconds["bare"])
            bound = upper_bound(ratio)
            lines.append(f"| {loop} | {name} | {ms:.3f} | {np.median(ratio):.3f} | {bound:.3f} |")
    return lines


def main() -> None:
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--steps", type=int, default=50, help="steps of a block")
    arguments = parser.parse_args()
    device, batch = arguments.device, arguments.batch
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device; --device cpu tries the eager part")
    load = os.getloadavg()[0]
    sizes = (arguments.blocks, arguments.steps)
    measured = {"eager": compare(device, batch, *sizes, is_graph=False)}
    numbers: dict[str, dict[str, float]] = {}
    lines: list[str] = []
    if device == "cuda":
        measured["CUDA graph"] = compare(device, batch, *sizes, is_graph=True)
        lines, numbers = kernel_table(batch)
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    note = (
        f"VGG13, batch {batch}, bfloat16 autocast, fused Adam; {name}, torch {torch.__version__}; "
        f"{sizes[0]} blocks of {sizes[1]} steps; load of the machine before: {load:.1f}. "
        + ("No recorded step waited for the device." if device == "cuda" else "A trial run.")
    )
    text = "\n".join(["# Recorder on a GPU\n", note + "\n", *ratio_table(measured), *lines]) + "\n"
    print(text)
    if device == "cuda":
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "recorder-cuda.md").write_text(text, encoding="utf-8")
        steps = {k: {n: s.tolist() for n, s in v.items()} for k, v in measured.items()}
        content = {"note": note, "load": load, "seconds": steps, "kernels": numbers}
        text = json.dumps(content, indent=1) + "\n"
        (RESULTS / "recorder-cuda.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
