"""The page on diagnosis is true of the recordings beside it."""

import importlib.util
import sys
from pathlib import Path

import pytest

from gradscope.derived.health.check import RULES, check_health
from gradscope.store.read.recording import open_recording

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8")


def load_maker():
    spec = importlib.util.spec_from_file_location("make_diagnosis", ROOT / "docs/make_diagnosis.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MAKER = load_maker()


def test_the_page_has_ten_recordings():
    assert len(MAKER.CASES) == 10
    files = {path.name for path in (ROOT / MAKER.RECORDINGS).glob("*.h5")}
    assert files == {case.recording.name for case in MAKER.CASES}


@pytest.mark.parametrize("case", MAKER.CASES, ids=lambda case: case.name)
def test_the_documented_rule_fires_and_no_other(case):
    tree = open_recording(ROOT / case.recording)
    findings = check_health(tree)
    tree.close()
    worrying = {finding.rule for finding in findings if finding.severity != "note"}
    assert worrying == ({case.rule} if case.rule else set()), findings
    if case.rule is None:
        assert findings == ()


@pytest.mark.parametrize("case", MAKER.CASES, ids=lambda case: case.name)
def test_the_page_shows_command_picture_and_rule(case):
    assert f"`gradscope record {case.options}`" in PAGE
    assert f"]({case.picture.relative_to('docs')})" in PAGE
    assert case.rule is None or f"Rule: **{case.rule}**" in PAGE


@pytest.mark.parametrize("case", MAKER.CASES, ids=lambda case: case.name)
def test_recordings_and_pictures_are_small(case):
    assert (ROOT / case.recording).stat().st_size <= 200_000
    assert (ROOT / case.picture).stat().st_size <= 60_000


def test_the_table_of_rules_is_that_of_the_rules():
    assert MAKER.rules_table() in PAGE
    assert all(f"| {rule.name} |" in PAGE for rule in RULES)
