"""Verdicts: what is decided, what is refused, and how it is written."""

import dataclasses
import json

import numpy as np
import pytest

from analyses.claims.claim import PRIMARIES, Claim, Evidence
from analyses.claims.evidence_tests import weigh
from analyses.claims.report import explored_markdown, verdicts_markdown, write_verdicts
from analyses.claims.verdict import check_design, judge
from analyses.study.question import Answer, Explored
from analyses.study.results import explored_table
from gradscope.errors import UsageError
from gradscope.stats.tests.sign_flip import sign_flip
from gradscope.stats.tests.tost import tost

BY_KEY = {claim.key: claim for claim in PRIMARIES}


def evidence(effects, *, spread=0.1, n=10, scale="full", arms=("tuned", "grafted"), **more):
    """Seeds spread evenly about each effect, so that means are exact: ±spread alternating."""
    noise = spread * np.linspace(-1, 1, n)
    values = np.stack([e + np.roll(noise, i) for i, e in enumerate(effects)], axis=1)
    names = tuple(f"c{i}" for i in range(len(effects)))
    return Evidence(values=values, components=names, scale=scale, arms=arms, **more)


def one(claim, given):
    """The verdict on one claim of the five primaries, or on a family of its own."""
    family = PRIMARIES if claim in PRIMARIES else (claim,)
    return {v.key: v for v in judge({claim.key: given}, family)}[claim.key]


def claim(prediction="greater", **more):
    options = {"key": "C", "statement": "s", "margin": 1.0, "unit": "u", **more}
    return Claim(prediction=prediction, **options)


@pytest.mark.parametrize(
    ("prediction", "effect", "word"),
    [
        ("greater", 2.0, "supported"),
        ("greater", 0.0, "not supported"),
        ("greater", -5.0, "not supported"),
        ("greater", 1.0, "inconclusive"),
        ("less", -2.0, "supported"),
        ("less", 2.0, "not supported"),
        ("either", -2.0, "supported"),
        ("either", 2.0, "supported"),
        ("either", 0.1, "not supported"),
        ("equal", 0.2, "supported"),
        ("equal", 2.0, "not supported"),
        ("equal", 1.0, "inconclusive"),
    ],
)
def test_word_follows_prediction_and_margin(prediction, effect, word):
    verdict = one(claim(prediction), evidence([effect]))
    assert verdict.word == word
    assert verdict.effect == pytest.approx(effect)


def test_all_needs_every_component_and_any_needs_one():
    mixed = evidence([2.0, 0.0, 3.0])
    assert one(claim(combine="all"), mixed).word == "not supported"
    found = one(claim(combine="any"), mixed)
    assert (found.word, found.component) == ("supported", "c2")
    assert one(claim(combine="any"), evidence([0.0, -3.0, 0.1])).word == "not supported"
    assert one(claim("equal"), evidence([0.0, 2.0])).component == "c1"


def test_p_are_those_of_the_tests_against_the_margin():
    given = evidence([1.1], spread=0.5)
    weight = weigh(claim(), given)
    assert weight.p_supported == sign_flip(given.values[:, 0] - 1.0).p_value
    assert weight.p_refuted == tost(given.values[:, 0], 1.0).p_value
    # Towards the margin there is nothing to support: the mean lies on the wrong side.
    assert weigh(claim(), evidence([0.9])).p_supported == 1.0


def test_tuning_allowance_stands_between_effect_and_margin():
    bare, wary = claim(), claim(allowance=0.5)
    assert one(bare, evidence([1.3])).word == "supported"
    assert one(wary, evidence([1.3])).word == "inconclusive"
    assert one(wary, evidence([1.8])).word == "supported"
    assert one(bare, evidence([0.7])).word == "not supported"
    assert one(wary, evidence([0.7])).word == "inconclusive"


@pytest.mark.parametrize("scale", ["smoke", "cpu", "short"])
def test_accuracy_is_decided_only_at_full(scale):
    given = evidence([0.02], spread=0.0005, scale=scale)
    assert one(BY_KEY["P4"], given).reason == f"scale: decided only at full, these runs are {scale}"
    assert one(BY_KEY["P4"], dataclasses.replace(given, scale="full")).word == "supported"


def test_slopes_are_decided_at_any_scale():
    assert one(BY_KEY["P1"], evidence([0.2] * 3, spread=0.01, scale="cpu")).word == "supported"


def test_claims_about_alpha_need_the_tuned_arm():
    verdict = one(BY_KEY["P4"], evidence([0.02], spread=0.0005, arms=("fixed",)))
    assert (verdict.word, verdict.reason) == (
        "inconclusive",
        "arms: needs the tuned arm, got fixed",
    )


def test_break_conditions_stop_a_verdict():
    verdict = one(claim(), evidence([2.0], breaks_fired=("equilibrium age is 3 or less",)))
    assert verdict.word == "inconclusive"
    assert verdict.reason == "break condition: equilibrium age is 3 or less"


def test_too_few_seeds_are_refused_with_the_seeds_needed():
    # 2^(1−7) = 0.0156 > 0.05 / 5 = 0.01 ≥ 2^(1−8).
    check_design(8)
    with pytest.raises(UsageError, match=r"0\.0156; the Holm threshold is 0\.01: run at least 8"):
        check_design(7)
    verdict = one(BY_KEY["P1"], evidence([0.2] * 3, spread=0.01, n=7))
    assert verdict.word == "inconclusive"
    assert verdict.reason.endswith("run at least 8 seeds")
    assert one(BY_KEY["P1"], evidence([0.2] * 3, spread=0.01, n=1)).word == "inconclusive"


def test_wide_intervals_decide_nothing_and_say_how_many_seeds_would():
    verdict = one(claim(), evidence([9.0], spread=1.5))
    assert verdict.word == "inconclusive"
    half = (verdict.high - verdict.low) / 2
    needed = int(np.ceil(10 * (half / 0.5) ** 2))
    assert f"about {needed} seeds" in verdict.reason


def test_holm_counts_claims_without_runs():
    # Ten seeds attain 2/1024; times five that is 0.0098.
    verdicts = judge({"P1": evidence([0.2] * 3, spread=0.01)})
    assert [v.key for v in verdicts] == ["P1", "P2", "P3", "P4", "P5"]
    assert verdicts[0].p_supported == pytest.approx(5 * 2 / 2**10)
    assert all(v.reason == "runs: there are none" for v in verdicts[1:])


def test_undecidable_evidence_does_not_help_the_others():
    accurate = evidence([0.02], spread=0.0005, scale="cpu")
    verdicts = judge({"P1": evidence([0.2] * 3, spread=0.01), "P4": accurate})
    assert verdicts[0].p_supported == pytest.approx(5 * 2 / 2**10)
    assert verdicts[3].p_supported == 1.0


def test_json_and_markdown_hold_everything(tmp_path):
    given = evidence([0.2, 0.3, 0.25], spread=0.01, scale="cpu", n_diverged=2)
    as_json, as_text = write_verdicts(judge({"P1": given}), tmp_path / "new")
    rows = json.loads(as_json.read_text())
    assert rows[0]["word"] == "supported"
    assert rows[0]["components"]["c1"][0] == pytest.approx(0.3)
    assert rows[1]["effect"] is None
    text = as_text.read_text()
    assert "| P1 | **supported** | 0.2 [" in text
    assert "2 runs diverged" in text
    # No verdict without its scale: one table row and one paragraph a claim.
    assert text.count("at scale") == len(PRIMARIES)
    assert text == verdicts_markdown(judge({"P1": given}))


def test_exploratory_findings_get_no_verdict_word():
    first = Explored.of("H1b", "it persists", sign_flip(np.arange(1, 11)), "nat a layer")
    second = Explored.of("H1b", "or not", sign_flip([-1.0, 1.0, 2.0, -2.0]), "nat", "censored")
    untested = Explored(key="H3b", statement="sparse", estimate=0.5, n=10, unit="1")
    answer = Answer(question="q", scale="cpu", evidence={}, explored=(first, second, untested))
    text = explored_markdown(explored_table(answer), "cpu")
    assert "Exploratory, at scale cpu" in text and "over 2 tests" in text
    # Benjamini–Hochberg of (0.00195, 1): 0.00195 · 2 and 1.
    assert "| 0.00391 | 10 |" in text
    assert "| H3b | sparse | 0.5 1 |  | 10 |" in text
    assert "supported" not in text


def test_declarations_are_checked():
    with pytest.raises(UsageError, match="`margin` of C must be positive; got 0"):
        claim(margin=0.0)
    with pytest.raises(UsageError, match="unknown prediction 'bigger'"):
        claim("bigger")
    with pytest.raises(UsageError, match="below the margin; got 2"):
        claim(allowance=2.0)
    with pytest.raises(UsageError, match="equality holds of all components"):
        claim("equal", combine="any")
    with pytest.raises(UsageError, match="unknown scale 'ful'; did you mean 'full'"):
        evidence([1.0], scale="ful")
    with pytest.raises(UsageError, match=r"got 1 for shape \(2, 2\)"):
        Evidence(values=np.zeros((2, 2)), components=("a",), scale="cpu", arms=())
    with pytest.raises(ValueError, match="`values` must be finite"):
        evidence([np.nan])
    with pytest.raises(UsageError, match="unknown claim 'P6'"):
        judge({"P6": evidence([1.0])})


def test_five_primaries_with_the_margins_of_the_protocol():
    margins = {c.key: c.margin for c in PRIMARIES}
    assert margins == {"P1": 0.05, "P2": 0.03, "P3": 0.003, "P4": 0.003, "P5": 0.1}
    assert {c.key for c in PRIMARIES if c.is_about_accuracy} == {"P3", "P4", "P5"}
