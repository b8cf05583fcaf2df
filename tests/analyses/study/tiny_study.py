"""A study of one question and one small spec, quick enough to be run, killed and run again."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from analyses import all as study
from analyses.claims.claim import Evidence
from analyses.study.command import guarded
from analyses.study.question import Answer, Explored, Question
from gradscope.stats.tests.sign_flip import sign_flip

SPEC = """
seeds = 2
[base]
model = "plain"
units = 8
depth = 2
dataset = "synthetic"
n_classes = 2
samples_per_class = 20
batch_size = 8
steps = 9
[grid]
alpha = [0.0, 0.5]
lr = [0.01, 0.02]
[scale.smoke]
steps = 3
"""
TUNED = SPEC.replace("seeds = 2", 'arm = "tuned"\nseeds = 2').replace("lr = [0.01, 0.02]", "")
TUNED += "[tuning]\ntrials = 3\n"


def measure(runs):
    rows = []
    for run in runs.of("tiny"):
        with run.open("training") as tree:
            loss = tree["training/loss"].values
        rows.append(
            {
                "run": run.name,
                "alpha": run.config["alpha"],
                "lr": run.config["lr"],
                "seed": run.seed,
                "fall": float(loss[0] - loss[-1]),
                "status": run.status,
            }
        )
    return {"falls": pd.DataFrame(rows)}


def answer(tables, scale):
    falls = tables["falls"].pivot_table(index="seed", columns="alpha", values="fall").dropna()
    difference = (falls[0.5] - falls[0.0]).to_numpy()
    evidence = Evidence(
        values=difference[:, None], components=("alpha 0.5",), scale=scale, arms=("fixed",)
    )
    found = sign_flip(difference) if len(difference) > 1 else None
    explored = (Explored.of("H0", "loss falls faster", found, "nat"),) if found else ()
    means = falls.mean().rename("mean").reset_index()
    return Answer(
        question="tiny",
        scale=scale,
        evidence={"P1": evidence},
        explored=explored,
        tables={"means": means},
        notes=(f"{len(difference)} seeds",),
    )


QUESTION = Question(name="tiny", specs=("tiny",), measure=measure, answer=answer)


def write_specs(folder: Path, text: str = SPEC) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.toml").write_text(text)
    return folder


def arguments(folder: Path, *more: str) -> list[str]:
    return [
        "--scale",
        "smoke",
        "--runs",
        str(folder / "runs"),
        "--workers",
        "1",
        "--results",
        str(folder / "results"),
        *more,
    ]


def main(folder: Path, *more: str) -> int:
    specs = write_specs(folder / "specs")
    options = study.parse(arguments(folder, *more))
    return guarded("tiny", lambda: study.run(options, [QUESTION], specs=specs))


def as_numbers(path: Path) -> np.ndarray:
    return pd.read_csv(path).select_dtypes("number").to_numpy()


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), *sys.argv[2:]))
