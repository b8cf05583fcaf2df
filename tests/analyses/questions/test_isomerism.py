"""The isomerism question: from small recordings to tables, and from tables to conclusions."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from analyses.claims.verdict import judge
from analyses.measures.class_gradients import matched_rows
from analyses.questions.isomerism.answer import NOT_MONOTONIC, answer
from analyses.questions.isomerism.measure import CLASSES, TUNED
from analyses.questions.isomerism.question import QUESTION
from analyses.study.results import answer_from, write_measured
from analyses.study.run_records import find_runs
from analyses.study.study import SPECS
from gradscope.experiments.sweep.engine import run_one
from gradscope.experiments.sweep.grid import read_sweep
from tests.helpers import synthetic_recording

SEEDS = range(10)
ALPHAS = (-0.3, -0.1, 0.1, 0.3, 0.5)


def made_up(best=(0.0, 0.1, 0.2), slope=0.05, noise_effect=0.3, never=()) -> dict:
    """Tables of ten seeds in which the effects are planted, with little noise."""
    rng = np.random.default_rng(0)
    tuned = [
        {
            "seed": seed,
            "alpha": alpha,
            "n_classes": classes,
            "is_random": False,
            "data": f"{classes} classes",
            "is_diverged": False,
            "accuracy": 0.9 - (alpha - top) ** 2 + rng.normal(0, 0.002),
        }
        for classes, top in zip((2, 10, 40), best, strict=True)
        for alpha in ALPHAS
        for seed in SEEDS
    ]
    gradients = [
        {
            "seed": seed,
            "is_diverged": False,
            "matched": matched,
            "head": head,
            "n_classes": classes,
            **(
                {}
                if (matched, classes) in never
                else dict.fromkeys(
                    ("output_grad_slope", "grad_slope", "head_sparsity"),
                    -0.2 + slope * np.log2(classes) + rng.normal(0, 0.01),
                )
                | {"sparsity": 1.1 + rng.normal(0, 0.01)}
            ),
        }
        for matched in ("step", "loss")
        for head in ("own", "constant")
        for classes in (2, 8, 32)
        for seed in SEEDS
    ]
    signs = [s for s in itertools.product((0, 1), repeat=5) if sum(s) % 2]
    factors = [
        {
            "seed": seed,
            "is_diverged": False,
            "matched": "step",
            "n_classes": (4, 20)[c],
            "samples": (20, 80)[n],
            "label_noise": (0.0, 0.2)[e],
            "imbalance": (1.0, 10.0)[i],
            "augment": a,
            "sparsity": 1.1 + rng.normal(0, 0.01),
            **dict.fromkeys(
                ("output_grad_slope", "grad_slope"), noise_effect * e + rng.normal(0, 0.01)
            ),
        }
        for c, n, e, i, a in signs
        for seed in SEEDS
    ]
    tables = {"tuned": tuned, "classes": gradients, "factors": factors}
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def verdict(tables, scale="full"):
    return next(v for v in judge(answer(tables, scale).evidence) if v.key == "P5")


def found(tables, key, part=""):
    return [e for e in answer(tables, "cpu").explored if e.key == key and part in e.statement]


def test_a_planted_move_of_the_best_alpha_is_supported_at_full_only():
    moved = verdict(made_up())
    assert moved.word == "supported"
    assert moved.effect == pytest.approx(0.2, abs=0.02)
    assert moved.component == "2 classes to 40 classes"
    assert verdict(made_up(), "cpu").reason.startswith("scale: decided only at full")


def test_a_best_alpha_that_stays_is_not_supported():
    assert verdict(made_up(best=(0.1, 0.1, 0.1))).word != "supported"
    assert abs(verdict(made_up(best=(0.1, 0.1, 0.1))).effect) < 0.02


def test_a_best_alpha_that_goes_to_and_fro_decides_nothing():
    evidence = answer(made_up(best=(0.0, 0.3, 0.2)), "full").evidence["P5"]
    assert evidence.breaks_fired == (NOT_MONOTONIC,)


def test_a_top_beyond_the_range_is_not_identified_and_named():
    evidence = answer(made_up(best=(0.0, 0.1, 0.9)), "full").evidence["P5"]
    assert evidence.breaks_fired[0].startswith("best alpha not identified")
    assert "(40 classes)" in evidence.breaks_fired[0]
    (top,) = found(made_up(best=(0.0, 0.1, 0.9)), "H3c", "40 classes")
    assert top.note.startswith("not identified")


def test_random_merges_are_no_data_set_of_the_claim():
    tables = made_up()
    merged = tables["tuned"].query("n_classes == 10").assign(is_random=True, data="random ones")
    tables["tuned"] = pd.concat([tables["tuned"], merged.assign(data="10 random classes")])
    assert verdict(tables).component == "2 classes to 40 classes"
    assert len(found(tables, "H3c", "10 random classes")) == 1


def test_slopes_over_classes_are_per_doubling_and_matched_both_ways():
    rows = found(made_up(), "H3a", "output gradient with each doubling")
    assert len(rows) == 4
    assert all(row.p < 0.01 for row in rows)
    assert [row.estimate for row in rows] == pytest.approx([0.05] * 4, abs=0.005)
    flat = found(made_up(), "H3b", "inner weights")
    assert [row.estimate for row in flat] == pytest.approx([0] * 4, abs=0.005)


def test_a_loss_that_no_seed_came_to_is_left_out():
    rows = found(made_up(never={("loss", 32)}), "H3a", "at equal loss")
    assert rows == []
    notes = answer(made_up(never={("loss", 32)}), "cpu").notes
    assert "classes: 20 of 60 runs never came to the loss level" in " ".join(notes)
    for head in ("own", "constant"):
        words = f"classes, {head} head, at equal loss: nothing is compared"
        assert any(note.startswith(words) and "with 32 none did" in note for note in notes)
    assert not any("nothing is compared" in note for note in answer(made_up(), "cpu").notes)


def test_diverged_runs_are_those_of_the_data_sets_that_are_compared():
    tables = made_up()
    tuned = tables["tuned"]
    tables["tuned"] = tuned.assign(is_diverged=(tuned["n_classes"] == 10) & (tuned["alpha"] > 0))
    assert answer(tables, "cpu").evidence["P5"].n_diverged == 0
    tables["tuned"] = tuned.assign(is_diverged=(tuned["n_classes"] == 2) & (tuned["alpha"] > 0))
    assert answer(tables, "cpu").evidence["P5"].n_diverged == 30


def test_the_factorial_finds_the_planted_factor_and_no_other():
    rows = found(made_up(), "H3e", "depth slope of ln output gradient")
    effects = {row.statement.split(" (")[0]: row for row in rows}
    assert effects["effect of label noise"].estimate == pytest.approx(0.3, abs=0.01)
    others = [row for name, row in effects.items() if "noise" not in name]
    assert len(others) == 4
    assert all(abs(row.estimate) < 0.01 for row in others)


def test_rows_are_matched_at_the_middle_and_where_the_loss_has_fallen():
    tree = synthetic_recording(100, 7)
    training = tree["training"].to_dataset()
    falling = np.log(4) * (1 - 0.01 * training["step"].values)
    tree["training"] = training.assign(loss=("step", falling))
    gradients = tree["gradients"].to_dataset()
    ones = gradients["grad_norm"] * 0 + 1.0
    tree["gradients"] = gradients.assign(
        grad_kurtosis=3.0 * ones, grad_rms=ones * np.exp(0.25 * gradients["depth"])
    )
    updates = tree["updates"].to_dataset()
    tree["updates"] = updates.assign(grad_param_product=updates["update_norm"])
    step, loss = matched_rows(tree, 4)
    # The mean of the last ten losses is that of 4.5 steps ago.
    assert (step["step"], loss["step"]) == (40, 55)
    assert [step["sparsity"], loss["head_sparsity"]] == pytest.approx([np.log(3)] * 2)
    _, never = matched_rows(tree, 10**9)
    assert never["sparsity"] == pytest.approx(np.log(3))
    training["loss"] = ("step", falling + 9)
    tree["training"] = training
    _, never = matched_rows(tree, 4)
    assert np.isnan(never["sparsity"])


def test_nothing_at_all_is_borne():
    assert answer({}, "cpu").evidence == {}


def test_small_recordings_give_tables_that_can_be_answered_again(tmp_path):
    chosen = {CLASSES: lambda c: c.seed == 0, TUNED: lambda c: c.n_classes == 2 and c.alpha > 0}
    for spec, some in chosen.items():
        for run in read_sweep(SPECS / f"{spec}.toml", scale="smoke").plan({}):
            if some(run.config):
                report = run_one(run.config, tmp_path / f"{spec}-smoke" / run.path.name)
                assert report.status == "finished", report.message
    tables = QUESTION.measure(find_runs([str(tmp_path)], QUESTION.specs))
    assert len(tables["classes"]) == 3 * 2
    assert set(tables["classes"]["head"]) == {"own", "constant"}
    assert tables["classes"].query("matched == 'step'")["sparsity"].notna().all()
    assert len(tables["trials"]) == 2
    write_measured(tables, tmp_path / "results")
    assert answer_from(QUESTION, "smoke", tmp_path / "results").evidence == {}
