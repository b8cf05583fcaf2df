"""Sizes and speeds of the store; run on an otherwise idle machine.

    python benchmarks/store.py [--quick]

Each line says what was measured, the figure, and the bound that the store promises. Without
``--quick`` the table is written to ``benchmarks/results/store.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import tempfile
import time
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import xarray as xr

from gradscope import schema
from gradscope.store.read.recording import open_recording
from gradscope.store.read.runs import open_runs
from gradscope.store.write import thread
from gradscope.store.write.writer import RecordingWriter

RNG = np.random.default_rng(0)
RESULTS = Path(__file__).parent / "results"
FIGURES: list[dict[str, str | float]] = []


def report(what: str, value: float, unit: str, bound: str) -> None:
    """Print a figure and keep it for the table."""
    print(f"{what:<66} {value:10.2f} {unit:<8} {bound}", flush=True)
    FIGURES.append({"what": what, "value": round(value, 3), "unit": unit, "bound": bound})


def write_results(load: float) -> None:
    """Write the table, and under which conditions it was made."""
    versions = (
        f"h5py {h5py.__version__} (HDF5 {h5py.version.hdf5_version}), xarray {xr.__version__}"
    )
    note = (
        f"`python benchmarks/store.py`; {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, {versions}; load of the machine before: {load:.1f}."
    )
    lines = [
        f"# The store\n\n{note}\n",
        "| measured | value | unit | bound |",
        "|---|---:|---|---|",
    ]
    lines += ["| {what} | {value:.2f} | {unit} | {bound} |".format(**row) for row in FIGURES]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "store.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    content = {"note": note, "load": load, "figures": FIGURES}
    (RESULTS / "store.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def axis(n_params: int) -> dict[str, list]:
    names = [f"features.{i // 2}.{('weight', 'bias')[i % 2]}" for i in range(n_params)]
    depth = [i // 2 for i in range(n_params)]
    relative = [d / max(depth[-1], 1) for d in depth]
    return {
        "param": names,
        "layer": [name.rpartition(".")[0] for name in names],
        "depth": depth,
        "relative_depth": relative,
        "kind": ["weight", "bias"] * (n_params // 2),
        "numel": [10**4] * n_params,
        "param_group": [0] * n_params,
    }


def auto_steps(last: int) -> np.ndarray:
    """Every step up to 1,000, then 1,000 for each factor of ten."""
    late = np.unique(np.round(10 ** (3 + np.arange(1, 1000 * np.log10(last / 1000)) / 1000)))
    return np.concatenate([np.arange(1, 1001), late.astype(int)])


def statistics(group: str, n_rows: int, n_params: int) -> dict[str, np.ndarray]:
    """Rows as training makes them: log-normal values that drift, counts of zero."""
    rows = {}
    for name, variable in schema.GROUPS[group].variables.items():
        drift = np.linspace(0, -3, n_rows)[:, None]
        values = np.exp(drift + 0.3 * RNG.standard_normal((n_rows, n_params)))
        rows[name] = values if variable.dtype.startswith("float") else np.zeros_like(values, int)
    return rows


class TimedWorker(thread.Worker):
    """A writer thread that measures its own CPU time, and leaves out the final merge."""

    seconds = 0.0

    def _run(self) -> None:
        start = time.thread_time()
        super()._run()
        self.seconds = time.thread_time() - start

    def _on_close(self, status: str) -> None:
        self._lock.release()


def measure_writer_thread(folder: Path, seconds: float, *, paced: bool) -> None:
    """50 steps a second, 50 layers, 20 statistics, a flush every 5 seconds.

    Paced, it is what a run costs while it is young. As fast as it goes, it says what merging old
    segments adds in the long run.
    """
    path = folder / ("paced.h5" if paced else "fast.h5")
    with mock.patch("gradscope.store.write.writer.Worker", TimedWorker):
        writer = RecordingWriter(path, flush_seconds=5.0 if paced else 3600.0)
    writer.set_axis("param", axis(50))
    names = {
        g: list(schema.GROUPS[g].variables) for g in ("gradients", "second_moments", "updates")
    }
    names["updates"] = names["updates"][:3]
    start = time.perf_counter()
    for k in range(int(50 * seconds)):
        row = np.exp(0.3 * RNG.standard_normal((1, 50)))
        for group, variables in names.items():
            writer.append(group, {"step": [k + 1], **dict.fromkeys(variables, row)})
        if paced:
            time.sleep(max(0.0, start + (k + 1) / 50 - time.perf_counter()))
        elif k % 250 == 249:
            writer.flush(wait=True)
    writer.flush(wait=True)
    writer.close()
    spent = 100 * writer._worker.seconds / seconds
    what = f"writer thread, 50 steps/s x 50 layers x 20, over {seconds:g} s"
    report(what if paced else f"{what}, CPU time", spent, "% core", "<= 2")


def measure_size_of_a_run(folder: Path) -> None:
    """VGG13 on CIFAR-10, 150 epochs: 58,650 steps, "standard", auto."""
    n_params, n_layers, n_steps = 42, 35, 58_650
    writer = RecordingWriter(folder / "vgg13.h5")
    writer.set_axis("param", axis(n_params))
    writer.set_axis("layer", {"layer": [f"features.{i}" for i in range(n_layers)]})
    steps, every = auto_steps(n_steps), np.arange(1, n_steps + 1)
    for group in ("gradients", "second_moments", "updates"):
        writer.append(group, {"step": steps, **statistics(group, len(steps), n_params)})
    writer.append("activations", {"step": steps, **statistics("activations", len(steps), n_layers)})
    tenth = steps[::10]
    counts = {
        "grad_histogram": RNG.poisson(50, (len(tenth), n_params, 96)) * (np.arange(96) > 60),
        "exp_avg_sq_histogram": RNG.poisson(50, (len(tenth), n_params, 181))
        * (np.arange(181) > 150),
    }
    writer.append("histograms", {"step": tenth, **counts})
    scalars = {name: RNG.random(n_steps) for name in ("loss", "total_grad_norm", "record_time")}
    hyper = {name: np.full((n_steps, 1), 0.1) for name in ("lr", "alpha", "beta1", "beta2", "eps")}
    wall = np.cumsum(RNG.random(n_steps))
    writer.append("training", {"step": every, **scalars, **hyper, "wall_time": wall})
    writer.close()
    report("VGG13, 58,650 steps, standard, auto", writer.path.stat().st_size / 1e6, "MB", "<= 25")
    report("open_recording of it", best(lambda: open_recording(writer.path).close()), "ms", "<= 50")


def best(action, repeat: int = 5) -> float:
    """Shortest of some runs, in milliseconds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def measure_long_series(folder: Path, n_rows: int) -> None:
    writer = RecordingWriter(folder / "long.h5", flush_rows=10_000)
    writer.set_axis("param", axis(500))
    for start in range(0, n_rows, 1000):
        norms = np.exp(0.3 * RNG.standard_normal((1000, 500)))
        writer.append("gradients", {"step": start + 1 + np.arange(1000), "grad_norm": norms})
    writer.close()
    raw = n_rows * 500 * 4 + n_rows * 8
    size = writer.path.stat().st_size
    report(f"finished file of {n_rows:,} x 500 random values / raw", size / raw, "", "<= 0.8")

    def one_layer() -> None:
        tree = open_recording(writer.path)
        tree["gradients"]["grad_norm"].sel(param="features.100.weight").load()
        tree.close()

    report(f"one layer's series from {n_rows:,} x 500", best(one_layer), "ms", "<= 100")


def measure_memory(folder: Path, n_steps: int) -> None:
    """Peak memory of the process after a tenth of the steps, after all, and after closing."""
    writer = RecordingWriter(folder / "million.h5")
    peaks = []
    for start in range(0, n_steps, 1000):
        steps = start + 1 + np.arange(1000)
        writer.append("training", {"step": steps, "loss": 1 / steps, "lr": np.full((1000, 1), 0.1)})
        writer.flush(wait=True)  # in training, steps do not come faster than they are written
        if start + 1000 in (n_steps // 10, n_steps):
            peaks.append(peak_megabytes())
    writer.close()
    peaks.append(peak_megabytes())
    grown = f"memory gained from {n_steps // 10:,} to {n_steps:,} steps"
    report(grown, peaks[1] - peaks[0], "MB", "constant")
    report("memory gained by the final merge of them", peaks[2] - peaks[1], "MB", "16 bytes a row")


def peak_megabytes() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_runs(folder: Path, n_runs: int) -> None:
    """Files with all three groups of parameters and training rows; ten contents, copied."""
    for i in range(10):
        writer = RecordingWriter(folder / f"r{i}.h5", {"config_json": {"alpha": i / 10}, "seed": i})
        writer.set_axis("param", axis(42))
        for group in ("gradients", "second_moments", "updates"):
            writer.append(group, {"step": np.arange(1, 2701), **statistics(group, 2700, 42)})
        lr = np.full((58_650, 1), 0.1)
        loss = RNG.random(len(lr))
        writer.append("training", {"step": np.arange(1, len(lr) + 1), "loss": loss, "lr": lr})
        writer.close()
    for i in range(10, n_runs):
        shutil.copy(folder / f"r{i % 10}.h5", folder / f"r{i}.h5")
    pattern = str(folder / "r*.h5")
    opened = best(lambda: open_runs(pattern, ["gradients"]).close(), repeat=1) / 1000
    report(f"open {n_runs} runs", opened, "s", "<= 5")
    norms = open_runs(pattern, ["gradients"])["gradients"]["grad_norm"]
    mean = best(lambda: norms.mean("step").groupby("alpha").mean().compute(), repeat=1) / 1000
    report(f"mean over alpha x depth of {n_runs} runs", mean, "s", "<= 10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    is_quick = parser.parse_args().quick
    part, load = 10 if is_quick else 1, os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure_memory(folder, 1_000_000 // part)
        measure_writer_thread(folder, 20 / part, paced=True)
        measure_writer_thread(folder, 320 / part, paced=False)
        measure_size_of_a_run(folder)
        measure_long_series(folder, 100_000 // part)
        measure_runs(folder, 500 // part)
    if not is_quick:
        write_results(load)


if __name__ == "__main__":
    main()
