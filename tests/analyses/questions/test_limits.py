"""The limits of alpha: planted boundaries are found, small recordings become tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analyses.questions.limits.answer import answer
from analyses.questions.limits.measure import LIMITS, measure
from analyses.study.run_records import find_runs
from analyses.study.study import SPECS
from gradscope.experiments.sweep.engine import run_one
from gradscope.experiments.sweep.grid import read_sweep

ALPHAS = (-0.5, 0.0, 0.5)


def planted():
    """Boundary at 10^(1 - 2 alpha), one decade above the line; only alpha < 0 is not finite."""
    rows, lines = [], []
    for seed in range(3):
        for alpha in ALPHAS:
            lines.append({"line": -2 * alpha, "scalar_line": 0.0, "alpha": alpha, "seed": seed})
            for decade in (-1.25, -0.25, 0.25, 1.25):
                lost = "not finite" if alpha < 0 else "trains"
                rows.append(
                    {"alpha": alpha, "seed": seed, "lr": 10 ** (1 - 2 * alpha + decade)}
                    | {"is_unstable": decade > 0, "end": lost if decade > 0 else "trains"}
                )
    tables = {"runs": pd.DataFrame(rows), "lines": pd.DataFrame(lines)}
    return {name: table.assign(net="no batch norm") for name, table in tables.items()}


def test_planted_boundaries_are_found():
    tables = planted()
    found = answer(tables, "cpu")
    edges = found.tables["boundaries"]
    np.testing.assert_allclose(edges["boundary"], 1 - 2 * edges["alpha"], atol=1e-12)
    by_name = {one.statement: one for one in found.explored}
    slope = by_name["slope of the boundary over alpha, no batch norm"]
    assert slope.estimate == pytest.approx(-2) and slope.n == 3
    less = by_name["slope of the boundary over alpha less that of the line, no batch norm"]
    assert less.estimate == pytest.approx(0, abs=1e-12)
    rms = by_name["RMS distance of the boundary from the line, no batch norm"]
    assert rms.estimate == pytest.approx(1)
    ends = "share of unstable runs that end not finite, alpha below 0 less above, no batch norm"
    assert by_name[ends].estimate == 1.0
    assert not found.evidence


def test_a_boundary_outside_the_grid_is_censored():
    tables = planted()
    runs = tables["runs"]
    runs.loc[runs["alpha"] == 0.5, "is_unstable"] = False
    found = answer(tables, "cpu")
    edges = found.tables["boundaries"]
    assert set(edges.loc[edges["alpha"] == 0.5, "censored"]) == {"all stable"}
    assert edges.loc[edges["alpha"] == 0.5, "boundary"].isna().all()
    assert "no boundary, no batch norm, alpha 0.5: 3 seeds all stable" in found.notes


def test_distances_are_compared_at_the_same_alphas():
    """Three decades at alpha -0.5 and one elsewhere, with or without batch norm."""
    tables = planted()
    far = tables["lines"]["alpha"] == -0.5
    tables["lines"]["line"] -= np.where(far, 2.0, 0.0)
    both = {
        name: pd.concat([table, table.assign(net="batch norm")], ignore_index=True)
        for name, table in tables.items()
    }
    runs = both["runs"]
    is_lost = (runs["net"] == "batch norm") & (runs["alpha"] == -0.5) & (runs["seed"] < 2)
    both["runs"] = runs.assign(is_unstable=runs["is_unstable"] & ~is_lost)
    found = {one.statement: one for one in answer(both, "cpu").explored}
    alike = found["distance from the line with batch norm less that without, mean over alphas"]
    assert alike.n == 3 and alike.estimate == pytest.approx(0)
    words = "distance from the line, alpha below 0 less alpha from 0 to 0.5, {}"
    assert found[words.format("no batch norm")].estimate == pytest.approx(2)
    one = found[words.format("batch norm")]
    assert one.n == 1 and one.estimate == pytest.approx(2)


def test_a_range_is_of_the_same_alphas_in_all_seeds():
    tables = planted()
    tables["lines"]["line"] -= np.where(tables["lines"]["alpha"] == 0.5, 2.0, 0.0)
    runs = tables["runs"]
    is_lost = (runs["alpha"] == 0.5) & (runs["seed"] == 0)
    tables["runs"] = runs.assign(is_unstable=runs["is_unstable"] & ~is_lost)
    (one,) = [
        one
        for one in answer(tables, "cpu").explored
        if one.statement.startswith("distance from the line, alpha below 0 less")
    ]
    # One decade at -0.5 and 0, three at 0.5.
    assert one.n == 2 and one.estimate == pytest.approx(-1)


@pytest.mark.slow
def test_recordings_become_tables(tmp_path):
    sweep = read_sweep(SPECS / f"{LIMITS}.toml", scale="smoke")
    for run in sweep.plan({})[::2]:
        path = tmp_path / f"{LIMITS}-smoke" / run.path.name
        assert run_one(run.config, path).status in ("finished", "diverged")
    tables = measure(find_runs([str(tmp_path)], [LIMITS]))
    assert len(tables["runs"]) == 6 and len(tables["lines"]) == 3
    assert tables["runs"]["is_unstable"].sum() >= 3
    # At larger v the preconditioner shrinks: the line falls with alpha where v is below 1.
    assert tables["lines"].sort_values("alpha")["line"].is_monotonic_decreasing
    assert len(answer(tables, "smoke").tables["boundaries"]) == 3
