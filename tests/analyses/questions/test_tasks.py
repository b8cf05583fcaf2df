"""Other tasks: planted interactions are found, recordings of both tasks become a table."""

from __future__ import annotations

import pandas as pd
import pytest

from analyses.questions.tasks.answer import answer
from analyses.questions.tasks.measure import SCENES, SPECS, SYMBOLS, measure
from analyses.study import study
from analyses.study.run_records import find_runs
from gradscope.experiments.sweep.engine import run_one
from gradscope.experiments.sweep.grid import read_sweep

BEST = {0.0: -0.1, 1.0: 0.25}


def planted():
    """Loss rises from a best alpha that depends on the exponent of symbols, not of scenes."""
    rows = [
        {"task": task, "arm": arm, "seed": seed, "zipf": zipf, "alpha": alpha}
        | {"test_loss": 2 + 0.1 * seed + abs(alpha - (BEST[zipf] if task == "symbols" else 0.1))}
        for task in ("symbols", "scenes")
        for arm in ("fixed", "grafted")
        for seed in range(3)
        for zipf in BEST
        for alpha in (-0.3, -0.1, 0.0, 0.1, 0.25, 0.5)
        if alpha or arm == "fixed"
    ]
    constant = {"lr": 1.0, "is_diverged": False, "first_loss": 4.0, "score": 0.5, "step": 0.1}
    return {"outcomes": pd.DataFrame(rows).assign(**constant)}


def test_planted_shifts_are_found():
    found = answer(planted(), "cpu")
    values = {one.statement: one.estimate for one in found.explored}
    best = "alpha of the lowest test loss, {}, exponent 1 less 0, grafted arm"
    assert values[best.format("symbols")] == pytest.approx(0.35)
    assert values[best.format("scenes")] == 0
    effect = "effect of alpha 0.5 on the test loss, {}, exponent 1 less 0, fixed arm"
    # |0.5 - 0.25| - |0 - 0.25| less |0.5 + 0.1| - |0 + 0.1|.
    assert values[effect.format("symbols")] == pytest.approx(-0.5)
    assert values[effect.format("scenes")] == pytest.approx(0)
    assert not found.evidence


def test_of_alphas_with_the_same_loss_none_is_preferred():
    outcomes = planted()["outcomes"]
    diverged = outcomes.assign(test_loss=4.0, is_diverged=True)
    values = {o.statement: o.estimate for o in answer({"outcomes": diverged}, "cpu").explored}
    best = "alpha of the lowest test loss, symbols, exponent 0, grafted arm"
    assert values[best] == pytest.approx(sum((-0.3, -0.1, 0.0, 0.1, 0.25, 0.5)) / 6)


@pytest.mark.slow
def test_recordings_become_a_table(tmp_path):
    for spec in (SYMBOLS, SCENES):
        sweep = read_sweep(study.SPECS / f"{spec}.toml", scale="smoke")
        for run in sweep.plan({}):
            path = tmp_path / f"{spec}-smoke" / run.path.name
            assert run_one(run.config, path).status == "finished"
    table = measure(find_runs([str(tmp_path)], SPECS))["outcomes"]
    assert table.groupby(["task", "zipf"]).size().tolist() == [2, 2, 2, 2]
    assert set(table["arm"]) == {"fixed", "grafted"} and table["step"].gt(0).all()
    assert table["score"].between(0, 1).all()
