"""The accumulation question: from small recordings to tables, and from tables to conclusions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses.claims.verdict import judge
from analyses.measures.depth_slopes import QUANTITIES
from analyses.questions.accumulation.answer import answer
from analyses.questions.accumulation.intervals import means
from analyses.questions.accumulation.question import QUESTION
from analyses.study.results import answer_from, write_measured
from analyses.study.run_records import find_runs
from gradscope.experiments.sweep.engine import run_one
from gradscope.experiments.sweep.grid import read_sweep

SPECS = Path(__file__).parents[3] / "analyses/specs"
SEEDS = range(10)
KNOWN = {"ReLU, He": 0.0, "ReLU, batch norm": -0.191}
# At alpha = 0 both kinds of decay predict a slope of 0, so one is run.
ARMS = [
    ("coupled", -0.2),
    ("coupled", 0.25),
    ("decoupled", -0.2),
    ("decoupled", 0.0),
    ("decoupled", 0.25),
]


def slope_rows(noisy, slope, missed) -> list[dict]:
    """Rows of ``slopes``: three networks at the start, the controls, and one along the training."""
    slopes = [
        {
            "spec": "accumulation-init",
            "net": net,
            "seed": seed,
            "phase": "start",
            "quantity": quantity,
            "slope": noisy(slope),
            "known": np.nan,
        }
        for net in ("vgg13", "vgg16", "vgg19")
        for seed in SEEDS
        for quantity in QUANTITIES
    ]
    slopes += [
        {
            "spec": "accumulation-plain",
            "net": net,
            "seed": seed,
            "phase": "start",
            "quantity": "output_grad_rms",
            "slope": noisy(known + missed),
            "known": known,
        }
        for net, known in KNOWN.items()
        for seed in SEEDS
    ]
    slopes += [
        {
            "spec": "accumulation-grafting",
            "net": "vgg13",
            "seed": seed,
            "phase": phase,
            "quantity": "output_grad_rms",
            "slope": noisy(slope * left),
            "known": np.nan,
        }
        for phase, left in (("start", 1.0), ("1 %", 0.9), ("10 %", 0.2))
        for seed in SEEDS
    ]
    return slopes


def made_up(
    slope=-0.2, deviation=0.0, missed=0.0, age=6.0, drift=-0.1, error=1e-6
) -> dict[str, pd.DataFrame]:
    """Tables of ten seeds in which the effects are planted, with noise of 0.01."""
    rng = np.random.default_rng(0)

    def noisy(value):
        return value + rng.normal(0, 0.01)

    slopes = slope_rows(noisy, slope, missed)
    balance = [
        {
            "decay": decay,
            "alpha": alpha,
            "seed": seed,
            "status": "finished",
            "age": age,
            "age_needed": 3.0,
            "drift": drift,
            "drift_allowed": 0.25,
            "spread": 0.5,
            "deviation": noisy(deviation),
        }
        for decay, alpha in ARMS
        for seed in SEEDS
    ]
    checks = [
        {"check": check, "case": "a case", "seed": 0, "value": error, "tolerance": tolerance}
        for check, tolerance in (("exact", 1e-5), ("law", 0.05), ("orthogonality", 1e-3))
    ]
    # ln loss: alpha's layer shares lower it by 0.5, its directions by 0.1, both by 0.6.
    effects = {"zero": 0.0, "full": -0.6, "layer": -0.5, "direction": -0.1}
    grafting = [
        {
            "net": "vgg13",
            "arm": arm,
            "alpha": 0.0 if arm == "zero" else 0.25,
            "seed": seed,
            "status": "finished",
            "train_loss": np.exp(noisy(effect)),
            "roughness": noisy(0.2 if arm == "full" else 0.1),
            "coherence": noisy(0.1),
            "late_slope": noisy(-0.2 if arm == "full" else 0.0),
        }
        for arm, effect in effects.items()
        for seed in SEEDS
    ]
    tables = {"slopes": slopes, "equilibrium": balance, "instrument": checks, "grafting": grafting}
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def words(tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    return {v.key: v.word for v in judge(answer(tables, "cpu").evidence)}


def test_planted_accumulation_and_balance_are_supported():
    found = words(made_up())
    assert found["P1"] == found["P2"] == "supported"


def test_no_accumulation_and_no_balance_are_not_supported():
    found = words(made_up(slope=0.0, deviation=0.25))
    assert found["P1"] == found["P2"] == "not supported"


@pytest.mark.parametrize(
    ("planted", "key", "reason"),
    [
        ({"missed": 0.03}, "P1", "plain-L controls miss their known slopes: ReLU, He has 0.0"),
        ({"error": 0.2}, "P1", "an instrument check fails: exact, a case: 0.2 exceeds 1e-05"),
        ({"age": 2.9}, "P2", "equilibrium age is 3 or less"),
        ({"drift": -0.9}, "P2", "norms still drift, at -0.90 of decay's rate"),
    ],
)
def test_break_conditions_leave_the_claim_open(planted, key, reason):
    verdict = next(v for v in judge(answer(made_up(**planted), "cpu").evidence) if v.key == key)
    assert verdict.word == "inconclusive"
    assert reason in verdict.reason


def test_checks_that_were_not_run_do_not_pass():
    tables = made_up()
    del tables["instrument"]
    fired = answer(tables, "cpu").evidence["P1"].breaks_fired
    assert fired == tuple(
        f"an instrument check fails: {check} was not run"
        for check in ("exact", "law", "orthogonality")
    )


def test_only_seeds_with_every_network_are_evidence():
    tables = made_up()
    slopes = tables["slopes"]
    is_lost = (slopes["net"] == "vgg19") & (slopes["seed"] == 3)
    tables["slopes"] = slopes[~is_lost]
    balance = tables["equilibrium"]
    balance.loc[balance["seed"] == 7, ["deviation", "age"]] = np.nan
    evidence = answer(tables, "cpu").evidence
    assert evidence["P1"].values.shape == (9, 3)
    assert evidence["P1"].components == ("vgg13", "vgg16", "vgg19")
    assert evidence["P2"].values.shape == (9, len(ARMS))
    assert evidence["P2"].components[0] == "coupled, alpha -0.2"


def explored(tables: dict[str, pd.DataFrame], key: str) -> dict[str, float]:
    return {one.statement: one.estimate for one in answer(tables, "cpu").explored if one.key == key}


def test_persistence_is_measured_in_the_direction_of_the_start():
    # Slopes -0.2, -0.18, -0.04: beyond half of the start's by 0.08 and -0.06.
    found = list(explored(made_up(), "H1b").values())
    assert found == pytest.approx([0.08, -0.06], abs=0.015)


def test_the_two_by_two_is_taken_apart():
    found = explored(made_up(), "H1e")
    estimates = [found[name] for name in found]
    expected = {
        "all of it": -0.6,
        "shares": -0.5,
        "directions": -0.1,
        "interaction": 0.0,
        "y_layer": -0.2,
    }
    assert estimates == pytest.approx(list(expected.values()), abs=0.03)
    for name, statement in zip(expected, found, strict=True):
        assert name in statement


def test_stability_is_compared_with_alpha_zero():
    found = explored(made_up(), "H1c")
    assert list(found.values()) == pytest.approx([0.1, 0.0, -0.2], abs=0.015)


def test_intervals_are_students():
    rows = pd.DataFrame({"net": ["a"] * 5, "slope": [1.0, 2.0, 3.0, 4.0, 5.0]})
    found = means(rows, ["net"], "slope").iloc[0]
    # s = sqrt(2.5), t(4) = 2.776: 3 +- 1.963.
    assert (found["low"], found["high"]) == pytest.approx((1.037, 4.963), abs=1e-3)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """The first run of every spec of the question, at smoke scale."""
    folder = tmp_path_factory.mktemp("runs")
    for spec in QUESTION.specs:
        sweep = read_sweep(SPECS / f"{spec}.toml", scale="smoke")
        for run in sweep.plan({})[:1]:
            report = run_one(run.config, folder / sweep.folder.name / run.path.name)
            assert report.status == "finished", report.message
    return folder


@pytest.mark.slow
def test_recordings_become_tables_evidence_and_notes(recordings, tmp_path):
    runs = find_runs([str(recordings)], QUESTION.specs)
    assert runs.scale == "smoke"
    write_measured(QUESTION.measure(runs), tmp_path)
    found = answer_from(QUESTION, "smoke", tmp_path)
    assert set(found.evidence) == {"P1", "P2"}
    assert found.evidence["P1"].components == ("vgg13",)
    keys = {one.key for one in found.explored}
    assert {"H1a", "H1b", "H1c", "H1d", "H1e", "control"} >= keys >= {"H1a", "control"}
    instrument = pd.read_csv(tmp_path / "instrument.csv")
    assert set(instrument["check"]) == {"exact", "law", "orthogonality"}
    exact = instrument[instrument["check"] == "exact"]
    assert (exact["value"] < exact["tolerance"]).all()


def test_nothing_to_measure_gives_no_evidence():
    found = answer({}, "smoke")
    assert found.evidence == {} and found.explored == ()
