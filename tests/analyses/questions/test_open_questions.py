"""Open questions: their conclusions and the sentences about them follow from committed tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from analyses.all import load_questions
from analyses.study.results import answer_from, read_about, read_table

ROOT = Path(__file__).parents[3]
README = " ".join((ROOT / "analyses/README.md").read_text(encoding="utf-8").split())
NAMES = ("limits", "transfer", "tasks")
DECADES, SHARE = "{:.2f} decades [{:.2f}, {:.2f}]", "{:.0%} [{:.0%}, {:.0%}]"
NUMBER, NAT = "{:.2f} [{:.2f}, {:.2f}]", "{:.2f} nat [{:.2f}, {:.2f}]"
RANKS = "rank correlation over alpha, test accuracy, fixed arm, {} with vgg13 (other seeds)"
FLAT = "RMS distance of test accuracy from that at alpha = 0, grafted arm, {}"
SLOPE = "slope of the test loss over alpha, {}, exponent {}, {} arm"
BEST = "alpha of the lowest test loss, {}, exponent 1 less 0, {} arm"
SENTENCES = {
    "alpha_limits": {
        "slope of the boundary over alpha, no batch norm": "{0:.2f} decades [{2:.2f}, {1:.2f}]",
        "RMS distance of the boundary from the line, no batch norm": DECADES,
        "RMS distance of the boundary from the line of one number, no batch norm": DECADES,
        "distance from the line with batch norm less that without, mean over alphas": DECADES,
        "distance from the line, alpha below 0 less alpha from 0 to 0.5, no batch norm": DECADES,
        "share of unstable runs that end not finite, alpha below 0, batch norm": SHARE,
        "share of unstable runs that end not finite, alpha below 0, no batch norm": SHARE,
        "share of unstable runs that end not finite, alpha above 0, no batch norm": SHARE,
    },
    "architecture_transfer": {
        **{
            RANKS.format(net): NUMBER
            for net in ("resnet14", "resnet14 without skips", "efficientnet")
        },
        **{
            FLAT.format(net): NUMBER
            for net in ("vgg13", "resnet14", "resnet14 without skips", "efficientnet")
        },
        "RMS distance from alpha = 0, grafted less fixed arm, vgg13": NUMBER,
        "test accuracy at alpha 0.5 less that at 0, grafted arm, resnet14": NUMBER,
        "depth slope of ln output gradient, start, alpha 0, resnet14 without skips less resnet14": (
            "{:.2f} nat per block [{:.2f}, {:.2f}]"
        ),
    },
    "tasks": {
        **{
            BEST.format(task, arm): NUMBER
            for task in ("symbols", "scenes")
            for arm in ("fixed", "grafted")
        },
        **{SLOPE.format("symbols", which, "grafted"): NAT for which in ("0", "1", "1 less 0")},
        SLOPE.format("scenes", "1 less 0", "grafted"): NAT,
        SLOPE.format("symbols", "1 less 0", "fixed"): NAT,
        "test loss at alpha -0.3 less that at 0, symbols, exponent 1, grafted arm": NAT,
    },
}
"""Statements whose estimate and interval stand in analyses/README.md; falls are told positive."""


@pytest.mark.parametrize("question", load_questions(NAMES), ids=lambda question: question.name)
def test_conclusions_follow_from_committed_tables(question, tmp_path):
    committed = ROOT / "data/results" / question.name / "cpu"
    copy = tmp_path / "cpu"
    copy.mkdir()
    for name in read_about(committed)["measured"]:
        shutil.copy(committed / f"{name}.csv", copy)
    shutil.copy(committed / "answer.json", copy)
    answer = answer_from(question, "cpu", copy)
    assert not answer.evidence
    assert {path.name for path in committed.iterdir()} == {path.name for path in copy.iterdir()}
    for path in committed.glob("*.csv"):
        pd.testing.assert_frame_equal(read_table(path), read_table(copy / path.name), rtol=1e-9)
    assert read_about(committed) == read_about(copy)
    found = {one.statement: one for one in answer.explored}
    for statement, words in SENTENCES[question.name].items():
        one = found[statement]
        numbers = [abs(x) if "{0" in words else x for x in (one.estimate, one.low, one.high)]
        text = words.format(*numbers).replace("%, ", ", ").replace("%]", "]").replace("%", " %")
        assert text in README, statement


LESS = "test accuracy at alpha {} less that at 0, {} arm, {}"
OVER = "test accuracy over alpha, over the claimed range, {} arm, {}"
FAR = "RMS distance of test accuracy from that at alpha = 0 over the claimed range, {} arm, {}"
HIGHEST = "alpha with the highest test accuracy, {} arm, {}"
LATE = "late depth slope of ln {} over alpha, {} arm, {}"
SETS = ("CIFAR-10", "CIFAR-100")
ARMS = ("fixed", "grafted")
CIFAR = {
    **{LESS.format(alpha, "fixed", s): (-100, 1) for alpha in (-0.3, 0.25, 0.5) for s in SETS},
    **{LESS.format(alpha, "grafted", s): (-100, 1) for alpha in (-0.3, 0.5) for s in SETS},
    **{LESS.format(0.1, "fixed", s): (100, 1) for s in SETS},
    **{OVER.format("fixed", s): (100, 0) for s in SETS},
    **{OVER.format("grafted", s): (100, 1) for s in SETS},
    **{FAR.format(arm, s): (100, 1) for arm in ARMS for s in SETS},
    **{HIGHEST.format(arm, s): (1, 2) for arm in ARMS for s in SETS},
    **{LATE.format("output_grad_rms", arm, s): (1, 2) for arm in ARMS for s in SETS},
    **{LATE.format("grad_rms", "fixed", s): (1, 2) for s in SETS},
    **{f"roughness of gradients over alpha, grafted arm, {s}": (1, 2) for s in SETS},
    **{
        LESS.format(-0.2, arm, f"{net}, CIFAR-10"): (-100, 1)
        for net in ("vgg16", "vgg19")
        for arm in ARMS
    },
    **{
        f"alpha with the highest test accuracy, CIFAR-100 less CIFAR-10, {arm} arm": (1, 2)
        for arm in ARMS
    },
}
"""Statements whose numbers stand in the section on CIFAR: factor and decimals."""


@pytest.mark.parametrize("statement", CIFAR)
def test_sentences_about_cifar_follow_from_committed_tables(statement):
    rows = pd.read_csv(ROOT / "data/results/cifar/mini/explored.csv").set_index("statement")
    factor, decimals = CIFAR[statement]
    value, *ends = (factor * rows.loc[statement, key] for key in ("estimate", "low", "high"))
    value, low, high = (f"{x:.{decimals}f}" for x in (value, *sorted(ends)))
    units = ("", " points", " nat per layer")
    assert any(f"{value}{unit} [{low}, {high}]" in README for unit in units), (value, low, high)
