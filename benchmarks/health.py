"""How often health rules fire where nothing is wrong, and whether they find what was planted.

``python -m benchmarks.health`` trains all runs (about six minutes on one core) and writes
``benchmarks/results/health.json`` and ``.md``; ``--keep FOLDER`` keeps the recordings.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import torch

from benchmarks.health_runs import Case, development, healthy, planted
from gradscope.derived.health import check_health
from gradscope.derived.health_loss import loss_curve
from gradscope.derived.health_run import Run
from gradscope.store.reader import open_recording

RESULTS = Path(__file__).parent / "results"
FACTS = {"non-finite values", "diverged loss"}
"""Rules that state what happened, whatever the cause."""


def judge(case: Case, path: Path) -> dict:
    """Train one case and apply the rules."""
    start = time.perf_counter()
    case.record(path)
    seconds = time.perf_counter() - start
    tree = open_recording(path)
    findings = [f for f in check_health(tree) if f.severity != "note"]
    curve = loss_curve(Run(tree))
    tree.close()
    found = {f.rule for f in findings}
    return {
        "name": case.name,
        "planted": case.rule,
        "found": sorted(found),
        "is_right": case.rule in found and found <= {case.rule} | FACTS if case.rule else not found,
        "messages": [f"{f.severity}: {f.rule}: {f.message}" for f in findings],
        "loss_fall": round(curve.fall, 3) if curve else None,
        "seconds": round(seconds, 1),
    }


def as_markdown(results: dict[str, list[dict]]) -> str:
    """Lay the results out."""
    runs, faults = results["healthy"], results["planted"]
    n_false = sum(bool(row["found"]) for row in runs)
    n_found = sum(row["planted"] in row["found"] for row in faults)
    n_right = sum(row["is_right"] for row in faults)
    lines = [
        "# Health rules",
        "",
        "Made by `python -m benchmarks.health`. Thresholds were set on the development runs; the "
        "healthy runs are of architectures and seeds that were not among them. Every run has 120 "
        "steps, so nothing is said of what shows only in long trainings.",
        "",
        f"- healthy runs with a warning or an error: {n_false} of {len(runs)} (training loss fell "
        f"by {min(row['loss_fall'] for row in runs):.0%} or more)",
        f"- planted faults found: {n_found} of {len(faults)}; with no warning of another kind "
        f"(diverged loss and non-finite values apart): {n_right}",
        "",
        "| run | planted | found | loss fell by |",
        "|---|---|---|---|",
    ]
    for rows in results.values():
        for row in rows:
            found = ", ".join(row["found"]) or "nothing"
            lines.append(
                f"| {row['name']} | {row['planted'] or ''} | {found} | {row['loss_fall']:.0%} |"
            )
    return "\n".join(lines) + "\n"


def write(results: dict[str, list[dict]]) -> None:
    """Write what is known so far, once there are healthy runs and planted faults."""
    if not {"healthy", "planted"} <= set(results):
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "health.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "health.md").write_text(as_markdown(results))


def main() -> None:
    """Train, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder that keeps the recordings")
    folder = parser.parse_args().keep
    torch.set_num_threads(1)
    # Planted overflows warn; that is their purpose.
    warnings.simplefilter("ignore")
    sets = {"healthy": healthy(), "planted": planted(), "development": development()}
    results: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, cases in sets.items():
            rows: list[dict] = []
            for k, case in enumerate(cases):
                path = (folder or Path(scratch)) / f"{name}-{k:02d}.h5"
                path.parent.mkdir(parents=True, exist_ok=True)
                row = judge(case, path)
                rows.append(row)
                mark = " " if row["is_right"] else "!"
                print(mark, name, case.name, row["messages"], f"{row['seconds']} s", flush=True)
            results[name] = rows
            write(results)
    print(as_markdown(results))


if __name__ == "__main__":
    main()
