"""The whole study on simulated truth; 2,000 studies: ``python -m analyses.claims.calibration``."""

import doctest
import json

import numpy as np
import pytest
from scipy import stats

from analyses.claims import calibration, verdict
from analyses.claims.simulation import Truth, heavy, simulate_study

N_STUDIES = 100


@pytest.fixture(scope="module")
def calibrated():
    return calibration.calibrate(N_STUDIES, seed=1)


@pytest.mark.parametrize("world", list(calibration.WORLDS))
def test_few_studies_err(calibrated, world):
    # A true rate of 5 % gives more than this many of 100 once in a thousand suites.
    most = stats.binom.ppf(0.999, N_STUDIES, 0.05) / N_STUDIES
    assert calibrated["worlds"][world]["studies_with_false_word"] <= most


def test_clear_effects_are_found(calibrated):
    power = calibrated["power_at_twice_margin"]
    assert power["P1"] > 0.9
    assert power["P2"] > 0.9
    assert min(power.values()) > 0.3


def test_clear_absence_is_found(calibrated):
    refuted = calibrated["refuted_when_nothing"]
    assert refuted["P1"] > 0.9
    assert refuted["P2"] > 0.9


def test_studies_are_reproducible():
    truth, rng = calibration.WORLDS["clear"], np.random.default_rng
    first, second = simulate_study(truth, rng(3)), simulate_study(truth, rng(3))
    for key, given in first.items():
        np.testing.assert_array_equal(given.values, second[key].values)


def test_simulated_effects_are_the_true_ones():
    truth = Truth(p1=(2.0, 0.0, -1.0), p2=(1.0, 0.0), p3=(1.0,) * 6, p4=(0.0,) * 6, p5=1.0)
    study = simulate_study(truth, np.random.default_rng(0), n_seeds=4000, unstable_share=0.0)
    # 4,000 seeds know a slope of spread 0.03 to 0.0005.
    np.testing.assert_allclose(study["P1"].values.mean(axis=0), [0.1, 0.0, -0.05], atol=0.003)
    np.testing.assert_allclose(study["P2"].values.mean(axis=0), [0.03, 0.0], atol=0.002)
    np.testing.assert_allclose(study["P3"].values.mean(axis=0), 0.003, atol=1e-4)


def test_noise_has_heavy_tails_and_unstable_studies_diverge():
    noise = heavy(np.random.default_rng(1), (100_000,), 2.0)
    # Student's t(3) scaled to standard deviation 2 has quartiles ± 0.7649 · 2 / √3 = ± 0.883.
    assert np.quantile(noise, 0.75) == pytest.approx(0.883, rel=0.03)
    truth = calibration.WORLDS["nothing"]
    study = simulate_study(truth, np.random.default_rng(2), n_seeds=50, unstable_share=1.0)
    assert study["P4"].n_diverged > 0
    # A run at chance is 0.84 off, whichever arm it fell in.
    assert np.abs(study["P4"].values).max() > 0.8


def test_command_writes_its_file_and_says_how_it_was_made(tmp_path, capsys):
    out = tmp_path / "calibration.json"
    code = calibration.main(["--studies", "3", "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["made_by"].startswith("python -m analyses.claims.calibration --studies 3")
    # Three studies can never bound the rate at 6.5 %, so the command says unsound.
    assert code == 1
    assert "any false 'supported'" in capsys.readouterr().out


@pytest.mark.parametrize("module", [calibration, verdict])
def test_worked_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
