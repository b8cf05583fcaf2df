"""What is kept of an answer: tables, evidence and exploratory numbers, as small text files.

In ``<root>/<question>/<scale>/``: one CSV per measured table and per table of the answer;
``evidence.csv`` (claim, seed, component, value), ``explored.csv`` (p before and after
Benjamini–Hochberg), and ``answer.json`` (measured tables, arms, break conditions, notes). Numbers
are written with every digit, so that reading them back changes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.claims.claim import Evidence
from analyses.study.question import Answer, Explored, Question, Tables
from gradscope.errors import UsageError
from gradscope.stats.tests.multiplicity import benjamini_hochberg

RESERVED = ("evidence", "explored")


def folder_of(root: Path, question: str, scale: str) -> Path:
    """Return where the results of a question at a scale are kept."""
    return root / question / scale


def write_measured(tables: Tables, folder: Path) -> None:
    """Write the measured tables; what an earlier answer left in the folder is removed.

    All are written beside the old ones before any takes its place: where that fails, as on a full
    disk, the old ones stay.

    Raises
    ------
    UsageError
        If no table has a row, or one has a reserved name.
    """
    filled = {name: table for name, table in tables.items() if len(table)}
    if not filled:
        raise UsageError(f"nothing was measured for {folder}: no run of its specs has ended")
    folder.mkdir(parents=True, exist_ok=True)
    _write_tables(filled, folder)
    _write_json({"measured": sorted(filled)}, folder)
    for old in folder.glob("*.csv"):
        if old.stem not in filled:
            old.unlink()


def has_results(folder: Path) -> bool:
    """Whether a results folder holds measured tables."""
    return (folder / "answer.json").exists()


def read_measured(folder: Path) -> dict[str, pd.DataFrame]:
    """Read the measured tables of a results folder.

    Raises
    ------
    UsageError
        If the folder holds no results, or a table is missing or damaged.
    """
    about = read_about(folder)
    tables = {}
    for path in [folder / f"{name}.csv" for name in about["measured"]]:
        try:
            tables[path.stem] = read_table(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} is missing or damaged: {error}") from error
    return tables


def answer_from(question: Question, scale: str, folder: Path) -> Answer:
    """Draw the conclusions from the measured tables of a folder, and write them beside those."""
    measured = read_measured(folder)
    answer = question.answer(measured, scale)
    twice = set(answer.tables) & {*measured, *RESERVED}
    if twice:
        raise UsageError(f"{question.name}: table names are taken: {', '.join(sorted(twice))}")
    _write_tables({name: table for name, table in answer.tables.items() if len(table)}, folder)
    evidence_table(answer.evidence).to_csv(folder / "evidence.csv", index=False)
    explored_table(answer).to_csv(folder / "explored.csv", index=False, na_rep="nan")
    _write_json({"measured": sorted(measured), **_about(answer)}, folder)
    return answer


def evidence_table(evidence: Mapping[str, Evidence]) -> pd.DataFrame:
    """Return the evidence in rows: claim, seed (in order, from 0), component, value."""
    columns = ["claim", "seed", "component", "value"]
    rows = [
        (key, seed, component, given.values[seed, at])
        for key, given in evidence.items()
        for seed in range(given.n)
        for at, component in enumerate(given.components)
    ]
    return pd.DataFrame(rows, columns=columns)


def explored_table(answer: Answer) -> pd.DataFrame:
    """Return the exploratory numbers in rows, with p adjusted over the question."""
    names = [field.name for field in dataclasses.fields(Explored)]
    rows = [dataclasses.asdict(one) for one in answer.explored]
    table = pd.DataFrame(rows, columns=names)
    table["p_adjusted"] = np.nan
    is_tested = table["p"].notna()
    if is_tested.any():
        tested = table.loc[is_tested, "p"].to_numpy(dtype=float)
        table.loc[is_tested, "p_adjusted"] = benjamini_hochberg(tested).adjusted
    table.insert(0, "scale", answer.scale)
    return table


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as it was written: empty text stays text, ``nan`` is missing."""
    with warnings.catch_warnings():
        # Newer versions of pandas read every digit by themselves and warn of the argument.
        warnings.filterwarnings("ignore", "The 'float_precision' argument is deprecated")
        return pd.read_csv(
            path, keep_default_na=False, na_values=["nan"], float_precision="round_trip"
        )


def read_about(folder: Path) -> dict[str, Any]:
    """Read ``answer.json`` of a results folder."""
    if not has_results(folder):
        raise UsageError(f"{folder} holds no results; run the study first")
    path = folder / "answer.json"
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}") from error
    return about


def _write_tables(tables: Tables, folder: Path) -> None:
    taken = set(tables) & set(RESERVED)
    if taken:
        raise UsageError(f"a table must not be called {min(taken)}; that name is taken")
    paths = {name: folder / f"{name}.csv" for name in tables}
    try:
        for name, table in tables.items():
            table.to_csv(_partial(paths[name]), index=False, na_rep="nan")
        for path in paths.values():
            _partial(path).replace(path)
    finally:
        for path in paths.values():
            _partial(path).unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write a file that is whole at every moment: the old one, then the new one."""
    try:
        _partial(path).write_text(text, encoding="utf-8")
        _partial(path).replace(path)
    finally:
        _partial(path).unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _about(answer: Answer) -> dict[str, Any]:
    return {
        "question": answer.question,
        "scale": answer.scale,
        "evidence": {
            key: {
                "n_seeds": given.n,
                "arms": list(given.arms),
                "breaks_fired": list(given.breaks_fired),
                "n_diverged": given.n_diverged,
            }
            for key, given in answer.evidence.items()
        },
        "notes": list(answer.notes),
    }


def _write_json(content: Mapping[str, Any], folder: Path) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    write_text(text + "\n", folder / "answer.json")
