"""The CIFAR question: from small recordings to tables, from planted tables to numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analyses.questions.cifar.answer import answer
from analyses.questions.cifar.explore_map import best_of_map, learned, map_cells
from analyses.questions.cifar.measure import ALPHA10, ALPHA100, DEPTH, LABELS, MAP, measure
from analyses.study.run_records import find_runs
from analyses.study.study import SPECS
from gradscope.experiments.sweep.engine import run_one
from gradscope.experiments.sweep.grid import read_sweep

ALPHAS = (-0.3, -0.1, 0.0, 0.1, 0.5)


def planted(spec, best):
    """Fixed accuracy falls from a best alpha by 1 a unit; grafted accuracy is flat."""
    rows = [
        {"spec": spec, "seed": seed, "arm": arm, "alpha": alpha}
        | {"accuracy": 0.5 + 0.001 * seed - (abs(alpha - best) if arm == "fixed" else abs(best))}
        for seed in range(5)
        for arm in ("fixed", "grafted")
        for alpha in ALPHAS
        if arm == "fixed" or alpha
    ]
    constant = {"model": "vgg13", "dataset": "cifar10", "labels": "fine", "is_diverged": False}
    return pd.DataFrame(rows).assign(**constant, run=[f"{spec}/{i}" for i in range(len(rows))])


@pytest.fixture(scope="module")
def found():
    outcomes = pd.concat([planted(ALPHA10, -0.1), planted(ALPHA100, 0.1)], ignore_index=True)
    return answer({"outcomes": outcomes}, "mini")


def estimate(found, words):
    (one,) = [one for one in found.explored if one.statement == words]
    return one.estimate


def test_planted_curves_are_found(found):
    best = "alpha with the highest test accuracy, "
    assert estimate(found, f"{best}fixed arm, CIFAR-10") == pytest.approx(-0.1)
    assert estimate(found, f"{best}CIFAR-100 less CIFAR-10, fixed arm") == pytest.approx(0.2)
    gain = "test accuracy at alpha 0.1 less that at 0, {} arm, CIFAR-100"
    assert estimate(found, gain.format("fixed")) == pytest.approx(0.1)
    # Differences to alpha 0 of -0.1, 0.1 and -0.1 at -0.3, -0.1 and 0.1.
    left = "RMS distance of test accuracy from that at alpha = 0 over the claimed range, {} arm, {}"
    assert estimate(found, left.format("fixed", "CIFAR-10")) == pytest.approx(0.1)
    assert estimate(found, left.format("grafted", "CIFAR-10")) == pytest.approx(0, abs=1e-12)
    slope = "test accuracy over alpha, over the claimed range, {} arm, CIFAR-100"
    assert estimate(found, slope.format("fixed")) == pytest.approx(1)
    assert estimate(found, slope.format("grafted")) == pytest.approx(0, abs=1e-12)


def test_of_alphas_with_the_same_accuracy_none_is_preferred():
    outcomes = planted(ALPHA10, -0.1)
    is_tied = (outcomes["arm"] == "fixed") & outcomes["alpha"].isin([0.0, 0.1])
    found = answer(
        {"outcomes": outcomes.assign(accuracy=outcomes["accuracy"].mask(is_tied, 0.9))}, "mini"
    )
    best = "alpha with the highest test accuracy, fixed arm, CIFAR-10"
    assert estimate(found, best) == pytest.approx(0.05)


def test_the_change_of_the_step_is_that_of_the_fixed_arm():
    outcomes = planted(ALPHA10, -0.1).assign(step=lambda t: np.exp(2 * t["alpha"] + t["seed"]))
    found = answer({"outcomes": outcomes}, "mini")
    words = "ln measured step at alpha -0.3 less that at 0, fixed arm, CIFAR-10"
    assert estimate(found, words) == pytest.approx(-0.6)


def test_a_run_that_diverged_elsewhere_does_not_leave_out_its_seed():
    """It has no step and no coherence; both are compared at other alphas."""
    outcomes = planted(ALPHA10, -0.1)
    is_lost = (outcomes["alpha"] == 0.5) & (outcomes["seed"] != 3)
    measured = {"step": np.exp(2 * outcomes["alpha"]), "coherence": 0.3 * outcomes["alpha"]}
    lost = {name: values.mask(is_lost) for name, values in measured.items()}
    found = answer({"outcomes": outcomes.assign(is_diverged=is_lost, **lost)}, "mini")
    for words, expected in (
        ("ln measured step at alpha -0.3 less that at 0, fixed arm, CIFAR-10", -0.6),
        ("coherence of gradients over alpha, fixed arm, CIFAR-10", 0.3),
    ):
        (one,) = [one for one in found.explored if one.statement == words]
        assert one.n == 5 and one.estimate == pytest.approx(expected)


def test_depth_slopes_over_alpha_are_compared_between_labels():
    rows = [
        {"seed": seed, "labels": labels, "alpha": alpha, "slope": slope * alpha + 0.1}
        for seed in (0, 1)
        for labels, slope in (("fine", 0.2), ("coarse", -0.3))
        for alpha in (-0.2, 0.0, 0.1)
    ]
    constant = {
        "spec": LABELS,
        "phase": "last 10 %",
        "quantity": "output_grad_rms",
        "model": "vgg13",
    }
    slopes = pd.DataFrame(rows).assign(dataset="cifar100", arm="grafted", **constant)
    found = answer({"slopes": slopes}, "mini")
    words = "late depth slope of ln output_grad_rms over alpha, {} labels"
    assert estimate(found, words.format("fine")) == pytest.approx(0.2)
    assert estimate(found, words.format("coarse")) == pytest.approx(-0.3)


def test_it_is_evidence_on_no_claim(found):
    assert not found.evidence
    assert not any("supported" in one.statement + one.note for one in found.explored)


def test_a_seed_that_lacks_a_cell_of_one_arm_is_named():
    outcomes = planted(ALPHA10, -0.1)
    is_lost = (outcomes["seed"] == 2) & (outcomes["arm"] == "grafted") & (outcomes["alpha"] == 0.5)
    found = answer({"outcomes": outcomes[~is_lost]}, "mini")
    (note,) = [note for note in found.notes if "left out" in note]
    assert note.startswith("cifar10-alpha, grafted arm: seeds 2 lack a cell")


def test_seeds_of_several_precisions_are_named():
    outcomes = planted(ALPHA10, -0.1)
    is_late = outcomes["seed"] >= 3
    mixed = outcomes.assign(amp=is_late.map({True: "off", False: "bf16"}))
    (note,) = [note for note in answer({"outcomes": mixed}, "mini").notes if "float32" in note]
    assert note.startswith("seeds 0, 1, 2 in bfloat16; 3, 4 in float32:")
    assert not any("float" in note for note in answer({"outcomes": outcomes}, "mini").notes)


def planted_map(*, lost=()):
    """Accuracy falls steeply from a ridge that moves by -10 decades of lr a unit of alpha."""
    rows = []
    for seed in (0, 1):
        for alpha in (-0.2, -0.1, 0.0, 0.1):
            for decade in range(-1, 4):
                accuracy = 0.1 + 0.7 * 0.05 ** abs(decade - 1 + 10 * alpha) + 0.01 * seed
                is_lost = (seed, alpha, decade) in lost
                rows.append(
                    {"seed": seed, "alpha": alpha, "lr": 10.0**decade, "is_diverged": is_lost}
                    | {"accuracy": 0.1 if is_lost else accuracy, "step": 10.0 ** (decade + alpha)}
                    | {"val_accuracy": 1.0 if is_lost else accuracy - 0.02}
                )
    constant = {"model": "vgg13", "dataset": "cifar10", "labels": "fine", "chance": 0.1}
    return pd.DataFrame(rows).assign(spec=MAP, arm="fixed", run=range(len(rows)), **constant)


def test_each_alpha_is_compared_at_the_learning_rate_validation_chose():
    best = best_of_map(planted_map())
    assert best.shape == (2, 4)
    assert best.loc[1].to_numpy() == pytest.approx([0.81] * 4)
    # A diverged run is never chosen, whatever its last validation said.
    best = best_of_map(planted_map(lost=[(0, 0.0, 1)]))
    assert best.loc[0, 0.0] == pytest.approx(0.1 + 0.7 * 0.05)


def test_learning_rates_as_good_on_validation_are_chosen_in_no_order_of_rows():
    cells = planted_map().assign(val_accuracy=0.5)
    for rows in (cells, cells[::-1]):
        assert (best_of_map(rows, "lr").to_numpy() == 0.1).all()


def test_a_seed_in_which_no_alpha_learned_has_no_best_alpha():
    cells = planted_map()
    is_dead = (cells["seed"] == 1) & (cells["lr"] == 10.0)
    found = answer({"outcomes": cells.assign(accuracy=cells["accuracy"].mask(is_dead, 0.1))}, "cpu")
    words = "alpha with the highest test accuracy at learning rate 10 of the map"
    (one,) = [one for one in found.explored if one.statement == words]
    assert (one.n, one.estimate) == (1, 0.0)


def test_a_cell_that_was_run_twice_stands_for_no_other():
    cells = planted_map()
    is_lost = (cells["seed"] == 1) & (cells["lr"] == 0.1) & (cells["alpha"] == 0.1)
    twice = cells[(cells["lr"] == 1.0) & (cells["alpha"] == 0.1)]
    found = map_cells({"outcomes": pd.concat([cells[~is_lost], twice])})
    assert set(found["seed"]) == {0}


def test_map_tells_how_its_best_learning_rate_moves():
    found = answer({"outcomes": planted_map()}, "mini")
    mean, chosen = (
        ", weighted by accuracy, over all cells",
        " at the cells that validation accuracy chose",
    )
    assert estimate(found, f"shift of the mean learning rate{mean}") == pytest.approx(-10, abs=0.01)
    assert estimate(found, f"shift of the mean measured step{mean}") == pytest.approx(-9, abs=0.01)
    assert estimate(found, f"shift of the learning rate{chosen}") == pytest.approx(-10)
    assert estimate(found, f"shift of the measured step{chosen}") == pytest.approx(-9)
    for lr, alpha in ((1, 0.1), (10, 0.0), (100, -0.1), (1000, -0.2)):
        words = f"alpha with the highest test accuracy at learning rate {lr} of the map"
        assert estimate(found, words) == pytest.approx(alpha)
    assert not any(
        "learning rate 0.1 of" in one.statement for one in found.explored
    )  # none learned
    words = "less that at 0, each at the learning rate of the map that validation accuracy chose"
    assert estimate(found, f"test accuracy at alpha 0.1 {words}") == pytest.approx(0)


def test_a_seed_of_the_map_that_is_half_run_is_left_out():
    whole = planted_map()
    half = whole[(whole["seed"] == 0) | (whole["lr"] == 1.0)]
    found = answer({"outcomes": half}, "mini")
    assert set(found.tables["map_numbers"]["seed"]) == {0}
    means = found.tables["map_means"].set_index(["alpha", "lr"])["accuracy"]
    assert means[0.0, 10.0] == pytest.approx(0.8) and means[0.0, 1.0] == pytest.approx(0.135)
    assert (
        "cifar10-map, fixed arm: seeds 1 lack a cell and are left out of comparisons" in found.notes
    )


def test_learning_rates_at_which_an_alpha_died_can_be_left_out():
    cells = planted_map()
    dead = (cells["seed"] == 1) & (cells["lr"] == 10.0) & (cells["alpha"] == 0.1)
    kept = learned(
        cells.assign(accuracy=0.5).assign(accuracy=lambda c: c["accuracy"].mask(dead, 0.2))
    )
    assert set(kept.loc[kept["seed"] == 0, "lr"]) == {0.1, 1.0, 10.0, 100.0, 1000.0}
    assert set(kept.loc[kept["seed"] == 1, "lr"]) == {0.1, 1.0, 100.0, 1000.0}


def test_deeper_networks_are_compared_by_themselves():
    rows = [
        {"seed": seed, "model": model, "arm": arm, "alpha": alpha, "accuracy": value}
        for seed in (0, 1)
        for model, drop in (("vgg16", 0.1), ("vgg19", 0.2))
        for arm, alpha, value in (
            ("fixed", -0.2, 0.7 - drop),
            ("fixed", 0.0, 0.7),
            ("grafted", -0.2, 0.7 + drop),
        )
    ]
    constant = {"spec": DEPTH, "dataset": "cifar10", "labels": "fine", "is_diverged": False}
    found = answer({"outcomes": pd.DataFrame(rows).assign(**constant)}, "mini")
    words = "test accuracy at alpha -0.2 less that at 0, {} arm, {}, CIFAR-10"
    assert estimate(found, words.format("fixed", "vgg16")) == pytest.approx(-0.1)
    assert estimate(found, words.format("grafted", "vgg19")) == pytest.approx(0.2)


@pytest.mark.slow
def test_rows_of_measured_runs_name_them(tmp_path):
    sweep = read_sweep(SPECS / f"{ALPHA10}.toml", scale="smoke")
    for run in sweep.plan({})[::2]:
        path = tmp_path / f"{ALPHA10}-smoke" / run.path.name
        assert run_one(run.config, path).status == "finished"
    tables = {
        name: t for name, t in measure(find_runs([str(tmp_path)], [ALPHA10])).items() if len(t)
    }
    assert set(tables) == {"outcomes", "slopes"}
    names = {f"{ALPHA10}-smoke/{run.path.stem}" for run in sweep.plan({})[::2]}
    assert all(set(table["run"]) == names for table in tables.values())
    assert tables["outcomes"]["arm"].value_counts().to_dict() == {"fixed": 3, "grafted": 2}
    assert tables["outcomes"]["step"].gt(0).all()
    assert {"outcome_means", "slope_means"} <= set(answer(tables, "smoke").tables)
