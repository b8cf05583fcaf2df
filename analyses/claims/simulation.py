"""Simulation of a study with known effects and realistic variation between seeds.

Units are those of the primaries. What is simulated to mislead: seeds with Student's t noise of 3
degrees of freedom; layers whose errors follow AR(1) within a run; arms that share their baseline;
unstable studies in which runs diverge to chance accuracy; learning rates tuned on noisy validation
runs, so that the chosen trial is the luckiest and not the best (the winner's curse).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from analyses.claims.claim import Evidence
from gradscope.stats.slopes.ols import ols_slopes

ALPHAS = (-0.3, -0.2, -0.1, 0.1, 0.25, 0.5)
CHANCE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
    """True effects of a study, in units of each claim's margin.

    Parameters
    ----------
    p1 : tuple, one per network
    p2 : tuple, decoupled and coupled
    p3, p4 : tuple, one per alpha
    p5 : float
    """

    p1: tuple[float, ...]
    p2: tuple[float, ...]
    p3: tuple[float, ...]
    p4: tuple[float, ...]
    p5: float


def simulate_study(
    truth: Truth, rng: np.random.Generator, *, n_seeds: int = 10, unstable_share: float = 0.1
) -> dict[str, Evidence]:
    """Draw the evidence on the five primaries.

    Parameters
    ----------
    truth : Truth
        The true effects.
    rng : numpy.random.Generator
        Random number generator of the study.
    n_seeds : int, default 10
        Fresh seeds of each arm.
    unstable_share : float, default 0.1
        Chance that one alpha of a study diverges in a fifth of its runs.

    Returns
    -------
    dict from claim key to Evidence
    """
    is_unstable = rng.random() < unstable_share
    return {
        "P1": _slopes(truth.p1, 0.05, rng, n_seeds, ("vgg13", "vgg16", "vgg19")),
        "P2": _slopes(truth.p2, 0.03, rng, n_seeds, ("decoupled", "coupled")),
        "P3": _fixed_arm(truth.p3, rng, n_seeds, is_unstable),
        "P4": _tuned_arm(truth.p4, rng, n_seeds, is_unstable),
        "P5": _best_alphas(truth.p5, rng, n_seeds, is_unstable),
    }


def heavy(rng: np.random.Generator, size: tuple[int, ...], spread: float) -> NDArray[np.float64]:
    """Student's t noise with 3 degrees of freedom and the standard deviation asked."""
    noise: NDArray[np.float64] = spread * rng.standard_t(3, size) / np.sqrt(3.0)
    return noise


def _slopes(
    true: tuple[float, ...],
    margin: float,
    rng: np.random.Generator,
    n_seeds: int,
    names: tuple[str, ...],
) -> Evidence:
    """One least-squares slope per run over ten layers with AR(1) errors, as a run gives it."""
    n_layers, memory = 10, 0.8
    errors = heavy(rng, (n_seeds, len(true), n_layers), margin)
    for layer in range(1, n_layers):
        errors[..., layer] += memory * errors[..., layer - 1]
    depth = np.arange(n_layers)
    lines = margin * np.asarray(true)[:, None] * depth + errors
    return Evidence(values=ols_slopes(lines, depth), components=names, scale="full", arms=())


def _fixed_arm(
    true: tuple[float, ...], rng: np.random.Generator, n_seeds: int, is_unstable: bool
) -> Evidence:
    """Accuracy at alpha less that of its twin with alpha = 0's direction, seed by seed."""
    accuracy = 0.94 + 0.003 * np.asarray(true) + heavy(rng, (n_seeds, len(true)), 0.001)
    twin = 0.94 + heavy(rng, (n_seeds, len(true)), 0.001)
    n_diverged = _diverge(accuracy, rng, is_unstable) + _diverge(twin, rng, is_unstable)
    return _accuracies(accuracy - twin, ("fixed", "grafted"), n_diverged)


def _tuned_arm(
    true: tuple[float, ...], rng: np.random.Generator, n_seeds: int, is_unstable: bool
) -> Evidence:
    """Tune the learning rate per alpha on one validation run a trial, then run fresh seeds."""
    tuned = _after_tuning(0.94 + 0.003 * np.array([0.0, *true]), rng)
    fresh = tuned + heavy(rng, (n_seeds, tuned.size), 0.0012)
    n_diverged = _diverge(fresh, rng, is_unstable)
    return _accuracies(fresh[:, 1:] - fresh[:, :1], ("tuned",), n_diverged)


def _after_tuning(peaks: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the true accuracy of each alpha's luckiest trial, one validation run each."""
    # Trials in factor-2 steps, the optimum anywhere between; an octave off costs 0.4 points.
    octaves = np.arange(-3.0, 4.0)
    offsets = rng.uniform(-0.5, 0.5, peaks.size)[:, None]
    surface = peaks[:, None] - 0.004 * np.square(octaves - offsets)
    chosen = np.argmax(surface + heavy(rng, surface.shape, 0.0015), axis=1)
    luckiest: NDArray[np.float64] = surface[np.arange(peaks.size), chosen]
    return luckiest


def _best_alphas(
    shift: float, rng: np.random.Generator, n_seeds: int, is_unstable: bool
) -> Evidence:
    """Vertex of a parabola through the tuned accuracies, per seed; its shift between data sets."""
    grid = np.array([0.0, *ALPHAS])
    vertices, n_diverged, n_non_concave = [], 0, 0
    for best in (0.0, 0.1 * shift):
        tuned = _after_tuning(0.94 - 0.03 * np.square(grid - best), rng)
        accuracy = tuned + heavy(rng, (n_seeds, grid.size), 0.0012)
        n_diverged += _diverge(accuracy, rng, is_unstable)
        quadratic, linear, _ = np.polyfit(grid, accuracy.T, 2)
        n_non_concave += int(np.count_nonzero(quadratic >= 0))
        vertices.append(np.clip(-linear / (2 * quadratic), grid.min(), grid.max()))
    fired = ("best alpha not identified",) if n_non_concave > 0.05 * 2 * n_seeds else ()
    return Evidence(
        values=(vertices[1] - vertices[0])[:, None],
        components=("shift",),
        scale="full",
        arms=("tuned",),
        breaks_fired=fired,
        n_diverged=n_diverged,
    )


def _diverge(accuracy: NDArray[np.float64], rng: np.random.Generator, is_unstable: bool) -> int:
    """Set a fifth of one column's runs to chance in an unstable study; return how many."""
    if not is_unstable:
        return 0
    n_runs, n_columns = accuracy.shape
    column = rng.integers(n_columns)
    is_lost = rng.random(n_runs) < 0.2
    accuracy[is_lost, column] = CHANCE
    return int(np.count_nonzero(is_lost))


def _accuracies(
    differences: NDArray[np.float64], arms: tuple[str, ...], n_diverged: int
) -> Evidence:
    names = tuple(f"alpha {alpha:g}" for alpha in ALPHAS)
    return Evidence(
        values=differences, components=names, scale="full", arms=arms, n_diverged=n_diverged
    )
