"""Follow a run that another process is writing: loss, gradient norms by stage, and health.

Waits for a run that has not started. If the output is not a terminal, a line is printed whenever
the run has progressed. The writer writes about every second while somebody looks.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscope.cli.recordings import as_recording, newest_recording

if TYPE_CHECKING:
    from rich.console import RenderableType

SUMMARY = "follow a run in the terminal"

_BARS = "▁▂▃▄▅▆▇█"
_SCALARS = ("loss", "total_grad_norm", "lr")
_WIDTH = 40
_WINDOW = 100
"""Number of rows used for the health rules."""
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "recording",
        metavar="RECORDING",
        nargs="?",
        help="recording, run.h5, which may start later (default: the newest in runs/)",
    )
    parser.add_argument(
        "--every",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="time between looks (default: 1)",
    )
    parser.add_argument("--once", action="store_true", help="print once and end")
    parser.add_argument("--json", action="store_true", help="print lines of JSON")


def run(arguments: argparse.Namespace) -> int:
    """Refresh the display until the run ends."""
    from rich.console import Console
    from rich.live import Live

    from gradscope.errors import UsageError
    from gradscope.store.format.attention import Attention

    if not arguments.every > 0:
        raise UsageError(f"--every must be above 0 seconds; got {arguments.every}")
    named = arguments.recording
    path = newest_recording("tail") if named is None else as_recording(named)
    if not arguments.once:
        wait_for(path, arguments.every)
    is_line = arguments.json or not (arguments.once or sys.stdout.isatty())
    if is_line:
        return stream(path, arguments)
    picture, status = _look(path)
    if arguments.once or status != "running":
        Console().print(picture)
        return 0
    with Live(picture, auto_refresh=False) as live:
        attention = Attention()
        while status == "running":
            attention.follow([path])
            time.sleep(arguments.every)
            picture, status = _look(path)
            live.update(picture, refresh=True)
    return 0


def wait_for(path: Path, seconds: float) -> None:
    """Wait until a recording has begun, and say so."""
    from gradscope.store.format.attention import Attention
    from gradscope.store.format.segments import finished_path, list_segments, part_folder

    def has_begun() -> bool:
        return finished_path(path).exists() or bool(list_segments(part_folder(path)))

    if has_begun():
        return
    print(f"gradscope tail: waiting for {path} (Ctrl-C ends)", file=sys.stderr)
    attention = Attention()
    while not has_begun():
        attention.follow([path])  # its writer then hurries with the first rows
        time.sleep(min(seconds, 0.5))
    attention.follow(())


def stream(path: Path, arguments: argparse.Namespace) -> int:
    """Print a line whenever the run has gone on, until it ends."""
    from gradscope.store.format.attention import Attention

    told: dict[str, Any] = {}
    attention = Attention()
    while True:
        attention.follow([path])
        newest = newest_values(path)
        if newest != told:
            told = newest
            print(json.dumps(newest) if arguments.json else _as_line(newest), flush=True)
        if arguments.once or newest["status"] != "running":
            return 0
        time.sleep(arguments.every)


def newest_values(path: Path) -> dict[str, Any]:
    """Return step, status, and the last value of each scalar; None where not finite."""
    from gradscope.store.read.recording import open_recording

    with open_recording(path, groups=("training", "evaluation")) as tree:
        found: dict[str, Any] = {
            "step": int(_last_step(tree).replace(",", "")),
            "status": status_of(tree, path),
        }
        for name, text, _ in _scalar_rows(tree):
            value = float(text) if text else math.nan
            found[name] = value if math.isfinite(value) else None
    return found


def _as_line(newest: dict[str, Any]) -> str:
    words = (
        f"{k} {'–' if v is None else f'{v:,}' if k == 'step' else v}" for k, v in newest.items()
    )
    return "  ".join(words)


def status_of(tree: Any, path: Path) -> str:
    """Return the status of a run; of one whose writer is gone, what to do."""
    from gradscope.store.format.segments import LOCK_NAME, finished_path, part_folder
    from gradscope.store.write.lock import is_held

    status = str(tree.attrs.get("status", "running"))
    is_written = finished_path(path).exists() or is_held(part_folder(path) / LOCK_NAME)
    if status == "running" and not is_written:
        return "interrupted: its writer is gone; see gradscope repair"
    return status


def _look(path: Path) -> tuple[RenderableType, str]:
    """Read the newest rows; return what to show and the status of the run."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from gradscope.derived.health.check import check_health
    from gradscope.store.read.recording import open_recording

    tree = open_recording(path)
    try:
        table = Table(box=None, pad_edge=False, show_header=False)
        for row in (*_scalar_rows(tree), *_stage_rows(tree)):
            table.add_row(*row)
        findings = check_health(tree, window=_WINDOW)
        status = status_of(tree, path)
        step = _last_step(tree)
    finally:
        tree.close()
    head = Text(f"{path}  step {step}  {status}", style="bold")
    found = [Text(f"! {f.rule}: {f.message}", style=_STYLES[f.severity]) for f in findings]
    return Group(head, table, *(found or [Text("no alarms", style="dim")])), status


def _last_step(tree: Any) -> str:
    steps = tree["training"]["step"].values if "training" in tree.children else []
    return f"{steps[-1]:,}" if len(steps) else "0"


def _scalar_rows(tree: Any) -> list[tuple[str, str, str]]:
    from gradscope.derived.cells import scalar_states

    rows = []
    for group, names in (("training", _SCALARS), ("evaluation", None)):
        if group not in tree.children:
            continue
        dataset = tree[group].to_dataset().isel(step=slice(-_WIDTH, None))
        for name in names or sorted(map(str, dataset.data_vars)):
            if name in dataset:
                series = dataset[name]
                series = series[:, 0] if series.ndim == 2 else series
                rows.append(_row(name, series.values, scalar_states(tree, series)))
    return rows


def _stage_rows(tree: Any) -> list[tuple[str, str, str]]:
    """Gradient norm of each stage, over the newest rows only."""
    import numpy as np
    import xarray as xr

    from gradscope.derived.aggregate import aggregate
    from gradscope.derived.cells import NONFINITE, states_of

    if "gradients" not in tree.children or "grad_norm" not in tree["gradients"].data_vars:
        return []
    names = [n for n in ("grad_norm", "grad_nonfinite") if n in tree["gradients"].data_vars]
    newest = tree["gradients"].to_dataset()[names].isel(step=slice(-_WIDTH, None))
    by = "stage" if "stage" in newest.coords else "all"
    united = aggregate(xr.DataTree.from_dict({"gradients": newest}), by)["gradients"].dataset
    norms = united["grad_norm"]
    states = states_of(norms)
    if "grad_nonfinite" in united:
        states[np.isnan(norms.values) & (united["grad_nonfinite"].values > 0)] = NONFINITE
    names = ["grad_norm"] if by == "all" else [f"grad_norm, stage {s}" for s in norms[by].values]
    return [_row(name, norms.values[:, i], states[:, i]) for i, name in enumerate(names)]


def _row(name: str, values: Any, states: Any) -> tuple[str, str, str]:
    from gradscope.derived.cells import MISSING, NONFINITE

    words = {MISSING: "missing", NONFINITE: "not finite"}
    last = words.get(int(states[-1]), f"{values[-1]:.4g}") if len(values) else ""
    return name, last, sparkline(values, states)


def sparkline(values: Any, states: Any = None) -> str:
    """Draw a series as one line of text: a dot where it is missing, a cross where not finite.

    Parameters
    ----------
    values : array, (n,)
    states : array of int, (n,), optional
        As of `gradscope.derived.cells`; by default, NaN is missing and infinity not finite.

    Examples
    --------
    >>> sparkline([0, 1, 2, float("nan"), float("inf"), 7])
    '▁▂▃·×█'
    """
    import numpy as np

    from gradscope.derived.cells import NONFINITE, NUMBER

    values = np.asarray(values, dtype=float)
    if states is None:
        states = np.where(np.isfinite(values), NUMBER, np.where(np.isinf(values), NONFINITE, 0))
    known = values[states == NUMBER]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    share = (values - low) / ((high - low) or 1)
    return "".join(
        _BARS[int(s * (len(_BARS) - 1))] if state == NUMBER else "×" if state == NONFINITE else "·"
        for s, state in zip(share, states, strict=True)
    )
