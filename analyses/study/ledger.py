"""Which runs the committed tables hold, so that a later call can add to them.

Recordings of a long study are not committed; its tables are. ``<results>/runs-<scale>.json`` names
the runs that were measured, with status and last metrics. A call that continues counts those runs
as ended and keeps their rows, without their recordings. The tables decide: a run whose rows they
lost is run again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analyses.study.question import Question, Tables
from analyses.study.results import folder_of, has_results, read_measured, write_text
from analyses.study.run_records import is_trial
from gradscope.errors import UsageError
from gradscope.experiments.sweep.grid import Finished
from gradscope.experiments.sweep.state import ENDED

RUN = "run"
"""Column that names the run of a row; empty where a row is of no run, and computed each time."""
_UNLISTED = Finished("finished", {})
_INSTEAD = "--afresh replaces the tables; or give other --results"


def known_runs(
    questions: Sequence[Question], results: Path, scale: str, specs: Collection[str]
) -> dict[str, Finished]:
    """Return the runs that the tables of a scale hold, by name; none where there are no tables.

    The tables say which runs, the ledger how they ended; of a trial that it lacks the score is not
    known, so that it does not count.

    Raises
    ------
    UsageError
        If rows of a question that has one of ``specs`` do not name their runs, so that nothing can
        be added to them, or a file is damaged.
    """
    named: set[str] = set()
    for question in questions:
        folder = folder_of(results, question.name, scale)
        tables = read_measured(folder) if has_results(folder) else {}
        if all(RUN in table for table in tables.values()):
            named.update(*(table[RUN] for table in tables.values()))
        elif set(question.specs) & set(specs):
            raise UsageError(f"rows of {folder} do not name their runs: none can join; {_INSTEAD}")
    ledger = read_ledger(results, scale)
    return {
        name: ledger.get(name, _UNLISTED)
        for name in sorted(named - {""})
        if name in ledger or not is_trial(name)
    }


def read_ledger(results: Path, scale: str) -> dict[str, Finished]:
    """Return the runs that the ledger of a scale names; none where there is none.

    Raises
    ------
    UsageError
        If the file is damaged.
    """
    path = _path(results, scale)
    if not path.is_file():
        return {}
    try:
        rows: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        ended = {name: Finished(row["status"], row["metrics"]) for name, row in rows.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path} is damaged: {error}; {_INSTEAD}") from error
    return {name: end for name, end in ended.items() if end.status in ENDED}


def write_ledger(ended: Mapping[str, Finished], results: Path, scale: str) -> None:
    """Write the runs that the tables hold, in order of their names."""
    lines = [
        f"{json.dumps(name)}: {json.dumps({'status': end.status, 'metrics': dict(end.metrics)})}"
        for name, end in sorted(ended.items())
    ]
    results.mkdir(parents=True, exist_ok=True)
    write_text("{\n" + ",\n".join(lines) + "\n}\n", _path(results, scale))


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
