"""Calibration of the study: error rate and power of the five verdicts.

``python -m analyses.claims.calibration`` simulates 2,000 studies in each of four worlds and writes
``data/results/calibration.json``:

- ``nothing``: every claim is false, and clearly so (twice the margin off for equality);
- ``edge_false``: every claim is false, by nothing: effects stand exactly at the margin;
- ``edge_true``: every claim is true, by nothing: effects stand exactly at the margin;
- ``clear``: every claim is true, effects at twice the margin (zero for equality).

A study errs if any verdict of it errs. The study is sound if, in every world, at most 5 % of
studies contain a false "supported" and at most 5 % a false "not supported", with 99 % upper bounds
of at most 6.5 %. Power at the margin is the share supported in ``edge_true``, at twice the margin
in ``clear``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from analyses.claims.claim import PRIMARIES
from analyses.claims.simulation import ALPHAS, Truth, simulate_study
from analyses.claims.verdict import judge

K = len(ALPHAS)
ONE = (1.0,) + (0.0,) * (K - 1)
WORLDS = {
    "nothing": Truth(p1=(0.0,) * 3, p2=(2.0, 0.0), p3=(2.0, *ONE[1:]), p4=(0.0,) * K, p5=0.0),
    "edge_false": Truth(p1=(1.0, 2.0, 2.0), p2=(1.0, 0.0), p3=ONE, p4=(1.0,) * K, p5=1.0),
    "edge_true": Truth(p1=(1.0,) * 3, p2=(1.0, -1.0), p3=(1.0,) * K, p4=ONE, p5=1.0),
    "clear": Truth(p1=(2.0,) * 3, p2=(0.0, 0.0), p3=(0.0,) * K, p4=(2.0, *ONE[1:]), p5=2.0),
}
FALSE_WORD = {
    "nothing": "supported",
    "edge_false": "supported",
    "edge_true": "not supported",
    "clear": "not supported",
}


def calibrate(n_studies: int, *, seed: int = 0, n_seeds: int = 10) -> dict[str, Any]:
    """Simulate studies in every world and count their verdicts.

    Parameters
    ----------
    n_studies : int
        Studies a world.
    seed : int, default 0
        Seed of the simulation.
    n_seeds : int, default 10
        Seeds of each simulated study's arms.

    Returns
    -------
    dict
        Settings, and per world the share of studies with any false word with its 99 % upper bound
        (Clopper–Pearson), and the share of each word per claim.
    """
    streams = np.random.SeedSequence(seed).spawn(len(WORLDS))
    worlds = {
        name: _count(truth, FALSE_WORD[name], n_studies, np.random.default_rng(stream), n_seeds)
        for (name, truth), stream in zip(WORLDS.items(), streams, strict=True)
    }
    return {
        "made_by": f"python -m analyses.claims.calibration --studies {n_studies} --seed {seed} "
        f"--seeds-per-arm {n_seeds}",
        "n_studies": n_studies,
        "n_seeds": n_seeds,
        "worlds": worlds,
        "power_at_margin": _shares(worlds["edge_true"], "supported"),
        "power_at_twice_margin": _shares(worlds["clear"], "supported"),
        "refuted_when_nothing": _shares(worlds["nothing"], "not supported"),
    }


def upper_bound(count: int, n: int, confidence: float = 0.99) -> float:
    """Return the one-sided Clopper–Pearson upper bound of a share.

    Examples
    --------
    Nothing seen in 300 leaves 1 − 0.01^(1/300) = 1.5 %.

    >>> round(upper_bound(0, 300), 4)
    0.0152
    """
    return float(stats.beta.ppf(confidence, count + 1, n - count)) if count < n else 1.0


def _count(
    truth: Truth, false_word: str, n_studies: int, rng: np.random.Generator, n_seeds: int
) -> dict[str, Any]:
    """Judge the studies of one world."""
    words: dict[str, Counter[str]] = {claim.key: Counter() for claim in PRIMARIES}
    n_false = 0
    for _ in range(n_studies):
        verdicts = judge(simulate_study(truth, rng, n_seeds=n_seeds))
        n_false += any(v.word == false_word for v in verdicts)
        for verdict in verdicts:
            words[verdict.key][verdict.word] += 1
    return {
        "false_word": false_word,
        "studies_with_false_word": n_false / n_studies,
        "upper_99": upper_bound(n_false, n_studies),
        "words": {
            key: {word: count / n_studies for word, count in sorted(counts.items())}
            for key, counts in words.items()
        },
    }


def _shares(world: dict[str, Any], word: str) -> dict[str, float]:
    return {key: shares.get(word, 0.0) for key, shares in world["words"].items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the calibration, write its file, print its summary; exit 1 if the study is unsound."""
    parser = argparse.ArgumentParser(
        prog="python -m analyses.claims.calibration", description=__doc__
    )
    parser.add_argument("--studies", type=int, default=2000, help="studies a world (2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds-per-arm", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("data/results/calibration.json"))
    options = parser.parse_args(argv)
    result = calibrate(options.studies, seed=options.seed, n_seeds=options.seeds_per_arm)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, world in result["worlds"].items():
        print(
            f"{name:<11} any false {world['false_word']!r}: "
            f"{world['studies_with_false_word']:.2%} (99 % upper bound {world['upper_99']:.2%})"
        )
    print("power at the margin:      ", result["power_at_margin"])
    print("power at twice the margin:", result["power_at_twice_margin"])
    is_sound = all(
        world["studies_with_false_word"] <= 0.05 and world["upper_99"] <= 0.065
        for world in result["worlds"].values()
    )
    return 0 if is_sound else 1


if __name__ == "__main__":
    raise SystemExit(main())
