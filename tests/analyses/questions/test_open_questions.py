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
NAMES = ("limits",)
DECADES, SHARE = "{:.2f} decades [{:.2f}, {:.2f}]", "{:.0%} [{:.0%}, {:.0%}]"
SENTENCES = {
    "alpha_limits": {
        "slope of the boundary over alpha, no batch norm": "{0:.2f} decades [{2:.2f}, {1:.2f}]",
        "RMS distance of the boundary from the line, no batch norm": DECADES,
        "RMS distance of the boundary from the line of one number, no batch norm": DECADES,
        "distance from the line with batch norm less that without, mean over alphas": DECADES,
        "share of unstable runs that end not finite, alpha below 0, no batch norm": SHARE,
        "share of unstable runs that end not finite, alpha above 0, no batch norm": SHARE,
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
