"""The worked examples in the docstrings are true."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import gradscope.stats

MODULES = [
    m.name
    for m in pkgutil.walk_packages(gradscope.stats.__path__, "gradscope.stats.")
    if not m.ispkg
]


@pytest.mark.parametrize("name", MODULES)
def test_worked_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    assert result.attempted > 0 or name.endswith(".sample")


def test_the_documentation_page_is_true():
    page = Path(__file__).parents[2] / "docs" / "statistics.md"
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.failed == 0
    assert result.attempted > 5
