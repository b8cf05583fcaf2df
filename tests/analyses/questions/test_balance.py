"""The balance question: from small recordings to tables, and from tables to conclusions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from analyses.claims.verdict import judge
from analyses.measures.alpha.cross_fit import cross_fitted_gain
from analyses.questions.balance.answer import answer
from analyses.questions.balance.measure import GRAFTED, MAP, SHARES, SPEED, TUNED
from analyses.questions.balance.question import QUESTION
from analyses.study.results import answer_from, write_measured
from analyses.study.run_records import find_runs
from analyses.study.study import SPECS
from gradscope.experiments.sweep.engine import run_one
from gradscope.experiments.sweep.grid import read_sweep

SEEDS = range(10)
ALPHAS = (-0.3, 0.0, 0.1, 0.25, 0.5)
GRAFTS = (("none", "zero"), ("global", "alpha"), ("profile", "zero"), ("tensor", "alpha"))


class Planted:
    """Tables of ten seeds in which effects are planted, with little noise, in a fixed order."""

    base: ClassVar = {
        "dataset": "cifar10",
        "lr": 0.1,
        "weight_decay": 5e-4,
        "chance": 0.1,
        "is_diverged": False,
    }

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def noisy(self, value, spread=0.0005):
        return value + self._rng.normal(0, spread)

    def grafted(self, twin, profile, baseline):
        # The cell "both of alpha" is the run without a graft.
        of_graft = {"none": twin + profile, "global": 0.0, "profile": twin, "tensor": profile}
        return [
            {
                **self.base,
                "alpha": alpha,
                "seed": seed,
                "graft": graft,
                "graft_from": source,
                "accuracy": self.noisy(baseline + of_graft[graft]),
            }
            for alpha in (-0.3, 0.1)
            for graft, source in GRAFTS
            for seed in SEEDS
        ]

    def tuned(self, gain, baseline):
        return [
            {
                **self.base,
                "alpha": alpha,
                "seed": seed,
                "graft": "none",
                "graft_from": "zero",
                "accuracy": self.noisy(baseline + (gain if alpha == -0.3 else 0.0)),
            }
            for alpha in ALPHAS
            for seed in SEEDS
        ]

    def trials(self):
        return [
            {
                **self.base,
                "alpha": alpha,
                "weight_decay": 5e-4 * 2.0**j,
                "lr": 0.1 * 2.0**i,
                "accuracy": 0.9 - 0.001 * (i * i + j * j),
            }
            for alpha in ALPHAS
            for i in (0, -1, 1)
            for j in (0, -1, 1)
        ]

    def shares(self, slope):
        return [
            {
                "activation": net,
                "decay": "coupled",
                "alpha": alpha,
                "seed": seed,
                "is_diverged": False,
                "descent": self.noisy(0.3 + sign * slope * alpha),
                "turning": self.noisy(0.3),
                "age": 4.0,
                "gradient_slope": sign * 0.2,
                "is_old": True,
            }
            for net, sign in (("relu", -1), ("tanh", 1))
            for alpha in (-0.2, 0.0, 0.2)
            for seed in SEEDS
        ]

    def speed(self):
        return [
            {
                "alpha": alpha,
                "seed": seed,
                "level": 0.2,
                "steps": np.exp(self.noisy(4 - 2 * alpha, 0.05)),
                "is_reached": alpha != -0.3,
                "is_diverged": False,
            }
            for alpha in ALPHAS
            for seed in SEEDS
        ]

    def gaps(self):
        return [
            {
                "alpha": alpha,
                "seed": seed,
                "level": 0.2,
                "gap": np.nan if (alpha, seed) == (0.5, 3) else self.noisy(0.1 + 0.2 * alpha, 0.01),
            }
            for alpha in ALPHAS
            for seed in SEEDS
        ]


def made_up(twin=0.0, gain=0.0, profile=0.0, slope=0.5, baseline=0.95) -> dict[str, pd.DataFrame]:
    """Tables of ten seeds in which the effects are planted."""
    planted = Planted()
    tables = {
        "grafted": planted.grafted(twin, profile, baseline),
        "tuned": planted.tuned(gain, baseline),
        "trials": planted.trials(),
        "shares": planted.shares(slope),
        "speed": planted.speed(),
        "gaps": planted.gaps(),
    }
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def words(tables, scale="full") -> dict[str, str]:
    return {v.key: v.word for v in judge(answer(tables, scale).evidence)}


def found(tables, key, part=""):
    return [e for e in answer(tables, "cpu").explored if e.key == key and part in e.statement]


def test_twins_that_agree_and_no_gain_by_tuning_refute_alpha():
    assert words(made_up())["P3"] == "supported"
    assert words(made_up())["P4"] == "not supported"


def test_a_planted_effect_of_alpha_is_found():
    verdicts = words(made_up(twin=0.01, gain=0.01))
    assert (verdicts["P3"], verdicts["P4"]) == ("not supported", "supported")


def test_below_the_full_scale_nothing_about_accuracy_is_decided():
    for verdict in judge(answer(made_up(twin=0.01, gain=0.01), "cpu").evidence):
        assert verdict.word == "inconclusive"
        if verdict.key in ("P3", "P4"):
            assert verdict.reason.startswith("scale: decided only at full")
            assert verdict.n == 10


def test_a_poor_baseline_decides_nothing():
    tables = made_up(gain=0.02, baseline=0.9)
    evidence = answer(tables, "full").evidence
    assert all("misses its reference" in e.breaks_fired[0] for e in evidence.values())
    assert words(tables)["P4"] == "inconclusive"


def test_an_arm_that_was_not_tuned_to_its_top_decides_nothing():
    tables = made_up(gain=0.02)
    tables["trials"] = tables["trials"].query("lr >= 0.1 or alpha != 0.1")
    (fired,) = answer(tables, "full").evidence["P4"].breaks_fired
    assert "edge of its grid" in fired
    assert "0.1" in fired


def test_shares_are_read_with_the_sign_of_the_gradient_slope():
    for net in ("relu", "tanh"):
        (descent,) = found(
            made_up(slope=0.5),
            "H2a",
            f"descent over alpha, times the sign of the measured gradient slope, plain {net}",
        )
        assert descent.low < 0.5 < descent.high
        assert descent.p < 0.01
    (turning,) = found(
        made_up(),
        "H2a",
        "turning over alpha, times the sign of the measured gradient slope, plain relu",
    )
    assert turning.low < 0 < turning.high


def test_speed_and_gap_are_slopes_over_alpha_with_what_is_missing_said():
    (speed,) = found(made_up(), "H2b")
    assert speed.estimate == pytest.approx(-2, abs=0.1)
    assert speed.note == "10 of 50 runs censored, at their last step"
    (gap,) = found(made_up(), "H2c")
    assert gap.estimate == pytest.approx(0.2, abs=0.03)
    assert (gap.n, gap.note[:18]) == (9, "1 seeds left out: ")
    notes = answer(made_up(), "cpu").notes
    assert any("10 of 50 runs did not come to 0.2 ln(classes)" in note for note in notes)


def test_the_decomposition_tells_profile_from_direction():
    tables = made_up(profile=-0.02)
    effects = {
        e.statement.split("through the ")[1].split(",")[0]: e.estimate
        for e in found(tables, "2x2", "alpha -0.3")
    }
    assert effects["profile"] == pytest.approx(-0.02, abs=0.002)
    assert effects["direction"] == pytest.approx(0, abs=0.002)
    assert effects["interaction"] == pytest.approx(0, abs=0.002)


def test_diverged_runs_of_other_grafts_are_not_behind_the_twins():
    grafted = pd.DataFrame(Planted().grafted(0.0, 0.0, 0.9))
    for graft, expected in (("profile", 0), ("global", 20)):
        table = grafted.assign(is_diverged=grafted["graft"] == graft)
        assert answer({"grafted": table}, "cpu").evidence["P3"].n_diverged == expected


def test_luck_does_not_count_twice():
    rng = np.random.default_rng(1)
    luck = pd.DataFrame(
        rng.normal(0.9, 0.01, (400, 7)), columns=[-0.3, -0.2, -0.1, 0, 0.1, 0.25, 0.5]
    )
    parts = [cross_fitted_gain(luck.iloc[i : i + 10]).mean() for i in range(0, 400, 10)]
    assert abs(np.mean(parts)) < 0.002
    naive = [luck.iloc[i : i + 10].mean() for i in range(0, 400, 10)]
    assert np.mean([m.iloc[:5].max() - m.iloc[5:].max() for m in naive]) > 0.0015


def test_only_seeds_that_have_every_alpha_count():
    tables = made_up()
    tables["tuned"] = tables["tuned"].query("not (seed == 9 and alpha == 0.5)")
    assert answer(tables, "full").evidence["P4"].n == 9


def test_one_seed_and_nothing_at_all_are_borne():
    one = {
        name: table.query("seed == 0") if "seed" in table else table
        for name, table in made_up().items()
    }
    assert {e.n for e in answer(one, "cpu").explored} == {1}
    assert answer({}, "cpu").evidence == {}


def run_some(folder, spec, chosen):
    sweep = read_sweep(SPECS / f"{spec}.toml", scale="smoke")
    runs = [run for run in sweep.plan({}) if chosen(run.config)]
    for run in runs:
        report = run_one(run.config, folder / f"{spec}-smoke" / run.path.name)
        assert report.status == "finished", report.message
    return len(runs)


@pytest.mark.slow
def test_small_recordings_give_tables_that_can_be_answered_again(tmp_path):
    chosen = {
        MAP: lambda c: c.alpha == 0 and c.lr == 0.1,
        GRAFTED: lambda c: c.seed == 0,
        SHARES: lambda c: c.seed == 0 and c.alpha == -0.2,
        TUNED: lambda c: c.alpha == 0,
        SPEED: lambda c: c.alpha == 0,
    }
    n_runs = {spec: run_some(tmp_path, spec, some) for spec, some in chosen.items()}
    runs = find_runs([str(tmp_path)], QUESTION.specs)
    tables = QUESTION.measure(runs)
    counts = {name: len(table) for name, table in tables.items()}
    assert counts["map"] == n_runs[MAP] == 1
    assert (counts["grafted"], counts["shares"]) == (4, 2)
    assert counts["trials"] == n_runs[TUNED]
    shares = tables["shares"]
    assert shares[["descent", "turning"]].notna().all(axis=None)
    assert set(shares["activation"]) == {"relu", "tanh"}
    write_measured(tables, tmp_path / "results")
    again = answer_from(QUESTION, "smoke", tmp_path / "results")
    assert any("runs ended before age 3" in note for note in again.notes)
