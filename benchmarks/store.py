"""Print the sizes and speeds of the store; run it on a quiet machine.

    python benchmarks/store.py [--quick]

Each line says what was measured, the figure, and the bound that the store promises.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from gradscope import schema
from gradscope.store import worker
from gradscope.store.reader import open_recording
from gradscope.store.runs import open_runs
from gradscope.store.writer import RecordingWriter

RNG = np.random.default_rng(0)


def report(what: str, value: float, unit: str, bound: str) -> None:
    print(f"{what:<66} {value:10.2f} {unit:<8} {bound}", flush=True)


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


def measure_writer_thread(folder: Path, seconds: float) -> None:
    """50 steps a second, 50 layers, 20 statistics: CPU time of the writer thread alone."""
    spent: list[float] = []
    run = worker.Worker._run

    def timed(self: worker.Worker) -> None:
        start = time.thread_time()
        run(self)
        spent.append(time.thread_time() - start)

    worker.Worker._run = timed
    writer = RecordingWriter(folder / "live.h5")
    worker.Worker._run = run
    writer.set_axis("param", axis(50))
    names = {
        g: list(schema.GROUPS[g].variables) for g in ("gradients", "second_moments", "updates")
    }
    names["updates"] = names["updates"][:3]
    row = RNG.random((1, 50))
    close = threading.Event()
    writer._worker._close = lambda status: close.set()  # the final merge is not part of a step
    start = time.perf_counter()
    for k in range(int(50 * seconds)):
        for group, variables in names.items():
            writer.append(group, {"step": [k + 1], **dict.fromkeys(variables, row)})
        time.sleep(max(0.0, start + (k + 1) / 50 - time.perf_counter()))
    writer._worker.flush(wait=True)
    writer._worker.put("close", "finished")
    writer._worker._thread.join()
    writer._worker._lock.release()
    writer._finalizer.detach()
    report("writer thread, 50 steps/s x 50 layers x 20", 100 * spent[0] / seconds, "% core", "<= 2")


def measure_size_of_a_run(folder: Path) -> None:
    """VGG13 on CIFAR-10, 150 epochs: 58,650 steps, "standard", auto."""
    n_params, n_layers, n_steps = 42, 35, 58_650
    writer = RecordingWriter(folder / "vgg13.h5")
    writer.set_axis("param", axis(n_params))
    writer.set_axis("layer", {"layer": [f"features.{i}" for i in range(n_layers)]})
    steps, every = auto_steps(n_steps), np.arange(1, n_steps + 1)
    for group in ("gradients", "second_moments", "updates"):
        writer.append(group, {"step": steps, **statistics(group, len(steps), n_params)})
    writer.append("signals", {"step": steps, **statistics("signals", len(steps), n_layers)})
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
    """Peak memory of the process after a tenth and after all of the steps."""
    writer = RecordingWriter(folder / "million.h5")
    peaks = {}
    for start in range(0, n_steps, 1000):
        steps = start + 1 + np.arange(1000)
        writer.append("training", {"step": steps, "loss": 1 / steps, "lr": np.full((1000, 1), 0.1)})
        if start + 1000 in (n_steps // 10, n_steps):
            writer.flush(wait=True)
            peaks[start + 1000] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    first, last = peaks.values()
    writer.close()
    report(
        f"memory gained from {n_steps // 10:,} to {n_steps:,} steps", last - first, "MB", "constant"
    )


def measure_runs(folder: Path, n_runs: int) -> None:
    names = ("grad_norm", "grad_mean", "grad_abs_mean", "grad_kurtosis")
    for i in range(10):
        writer = RecordingWriter(folder / f"r{i}.h5", {"config_json": {"alpha": i / 10}, "seed": i})
        writer.set_axis("param", axis(42))
        values = {name: RNG.random((2700, 42)) for name in names}
        writer.append("gradients", {"step": np.arange(1, 2701), **values})
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
    part = 10 if parser.parse_args().quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure_memory(folder, 1_000_000 // part)
        measure_writer_thread(folder, 60 / part)
        measure_size_of_a_run(folder)
        measure_long_series(folder, 100_000 // part)
        measure_runs(folder, 500 // part)


if __name__ == "__main__":
    main()
