"""How long a row takes from the end of its step to a client of the live page, and what that costs.

    uv run python -m benchmarks.live [--seconds 60]

A training in a process of its own is followed for ten seconds and left alone for ten, in turns. The
lag of a step is the time from its end until an answer of the server first shows it; the ratio is
that of the step time while somebody follows to that while nobody does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np

PHASE_SECONDS = 10.0
STEP_SECONDS = 0.02
"""Length of a step: the loop waits for what its arithmetic leaves of it."""
RESULTS = Path(__file__).parent / "results"


def train(folder: Path, until: float) -> None:
    """Train a small network; write when each step ended and the seconds that it computed."""
    import torch
    from torch import nn

    from gradscope.record.recorder import Recorder

    torch.set_num_threads(1)
    model = nn.Sequential(*[m for _ in range(8) for m in (nn.Linear(64, 64), nn.ReLU())])
    optimizer = torch.optim.Adam(model.parameters())
    steps = []
    with Recorder(model, optimizer, folder / "run.h5") as recorder:
        while time.monotonic() < until:
            begun = time.monotonic()
            loss = model(torch.randn(32, 64)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            recorder.log(loss=loss)
            ended = time.monotonic()
            steps.append((recorder.step, ended, ended - begun))
            time.sleep(max(0.0, STEP_SECONDS - (ended - begun)))
    (folder / "steps.json").write_text(json.dumps(steps))


def last_step(url: str) -> int:
    """Ask the server which step of the run it knows."""
    with urllib.request.urlopen(f"{url}api/runs", timeout=20) as answer:
        rows = json.load(answer)["rows"]
    return max((int(row.get("step") or 0) for row in rows), default=0)


def follow(url: str, until: float, seen: list[tuple[int, float]]) -> None:
    """Listen as a page does: ask for the table whenever the server says that it has changed."""
    with urllib.request.urlopen(f"{url}api/events", timeout=20) as stream:
        for line in stream:
            if line.startswith(b"data:"):
                seen.append((last_step(url), time.monotonic()))
            if time.monotonic() > until:
                return


def measure(seconds: float) -> dict[str, float]:
    """Follow a training in turns; return the lags in seconds and the ratio of step times."""
    from gradscope.view.server import serve_in_background

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = serve_in_background([folder])
        begun = time.monotonic() + 8.0  # imports
        context = multiprocessing.get_context("spawn")
        training = context.Process(target=train, args=(folder, begun + seconds))
        training.start()
        phases, lags = [], []
        while (at := begun + 2 * PHASE_SECONDS * len(phases)) + PHASE_SECONDS < begun + seconds:
            time.sleep(max(0.0, at - time.monotonic()))
            seen: list[tuple[int, float]] = []
            listener = threading.Thread(target=follow, args=(page.url, at + PHASE_SECONDS, seen))
            listener.start()
            listener.join()
            phases.append((at, at + PHASE_SECONDS, seen))
        training.join()
        steps = json.loads((folder / "steps.json").read_text())
        page.close()
    followed, alone = [], []
    for low, high, seen in phases:
        for step, ended, took in steps:
            if low <= ended <= high - 3.0:
                lags.append(min((at for known, at in seen if known >= step), default=high) - ended)
            if low <= ended <= high:
                followed.append(took)
            elif high <= ended <= high + PHASE_SECONDS:
                alone.append(took)
    return {
        "mean_s": float(np.mean(lags)),
        "p95_s": float(np.quantile(lags, 0.95)),
        "max_s": float(np.max(lags)),
        "n_steps": len(lags),
        "step_ratio": float(np.median(followed) / np.median(alone)),
        "step_ms": 1e3 * float(np.median(alone)),
    }


def main() -> None:
    """Measure, print the figures, and write them under ``benchmarks/results/``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    load, row = os.getloadavg()[0], measure(parser.parse_args().seconds)
    print(json.dumps(row, indent=1))
    note = f"{platform.machine()}, {os.cpu_count()} cores; load before: {load:.1f}"
    lines = [
        "# How late the live page is",
        "",
        f"`python -m benchmarks.live`; {note}. Lag from the end of a step until an answer of the "
        f"server shows it, over {row['n_steps']} steps; step time while followed over step time "
        f"alone ({row['step_ms']:.1f} ms).",
        "",
        "| mean lag | 95 % below | longest | step time, followed over alone |",
        "|---:|---:|---:|---:|",
        f"| {row['mean_s']:.2f} s | {row['p95_s']:.2f} s | {row['max_s']:.2f} s "
        f"| {row['step_ratio']:.2f} |",
    ]
    (RESULTS / "live.md").write_text("\n".join(lines) + "\n")
    (RESULTS / "live.json").write_text(json.dumps({"note": note} | row, indent=1) + "\n")


if __name__ == "__main__":
    main()
