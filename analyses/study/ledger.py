"""Which runs the committed tables hold, so that a later session can add to them.

Recordings of a long study are not committed; its tables are. ``<results>/runs-<scale>.json`` names
every run that was measured, with its status and last metrics. A session that continues counts those
runs as ended and keeps their rows, without their recordings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from analyses.study.question import Tables
from gradscope.experiments.sweep.grid import Finished, Sweep

RUN = "run"
"""Column that names the run of a row."""
SEED = re.compile(r"-s(\d+)-[0-9a-f]+$")
"""The seed, in the name of a run."""


def name_of(path: Path) -> str:
    """Return the name of a run: folder and stem of its recording.

    The stem ends in a digest of the configuration, so a run of another configuration has another
    name.

    >>> name_of(Path("runs/study/cifar10-alpha-mini/alpha0-s1-0f.h5"))
    'cifar10-alpha-mini/alpha0-s1-0f'
    """
    return f"{path.parent.name}/{path.stem}"


def read_ledger(results: Path, scale: str) -> dict[str, Finished]:
    """Return the runs that the tables of a scale hold; none where there are no tables."""
    path = _path(results, scale)
    if not path.is_file():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {name: Finished(row["status"], row["metrics"]) for name, row in rows.items()}


def of_more_seeds(known: Mapping[str, Finished], sweep: Sweep) -> dict[Path, Finished]:
    """Return the known runs of a sweep at seeds that are not planned now; no trials of tuning.

    A run at a planned seed that is not planned has another configuration than it had before.
    """
    found = {}
    for name, ended in known.items():
        folder, _, stem = name.rpartition("/")
        seed = SEED.search(stem)
        is_own = folder == sweep.name and not stem.startswith("tune-")
        if is_own and seed is not None and int(seed[1]) not in sweep.seeds:
            found[sweep.folder / f"{stem}.h5"] = ended
    return found


def write_ledger(
    outcomes: Mapping[str, Mapping[Path, Finished]], results: Path, scale: str
) -> None:
    """Write the runs of all sweeps, in order of their names."""
    ended = {name_of(path): end for sweep in outcomes.values() for path, end in sweep.items()}
    lines = [
        f"{json.dumps(name)}: {json.dumps({'status': end.status, 'metrics': dict(end.metrics)})}"
        for name, end in sorted(ended.items())
    ]
    results.mkdir(parents=True, exist_ok=True)
    _path(results, scale).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def can_join(tables: Tables) -> bool:
    """Whether every row of the tables names its run."""
    return all(RUN in table for table in tables.values())


def join(old: Tables, new: Tables, kept: Collection[str]) -> dict[str, pd.DataFrame]:
    """Return new tables with the rows of runs that are kept from old ones.

    Parameters
    ----------
    old, new : mapping of str to DataFrame
        With a column ``run`` where they have rows.
    kept : collection of str
        Names of runs that have ended and were not measured again.
    """
    joined = {}
    for name in dict.fromkeys([*new, *old]):
        parts = [new[name]] if len(new.get(name, ())) else []
        if name in old:
            parts.append(old[name][old[name][RUN].isin(kept)])
        filled = [part for part in parts if len(part)]
        joined[name] = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return {
        name: table.sort_values(RUN, kind="stable", ignore_index=True) if len(table) else table
        for name, table in joined.items()
    }


def _path(results: Path, scale: str) -> Path:
    return results / f"runs-{scale}.json"
