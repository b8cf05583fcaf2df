"""The examples of the page and of the docstrings run."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = ("kernels.power", "schedules", "shadow", "smes")


def test_page():
    result = doctest.testfile(str(ROOT / "docs" / "smes.md"), module_relative=False)
    assert result.attempted > 20
    assert result.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"gradscope.optim.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
