"""Pages and notebooks teach public names only: those that gradscope and its rooms export."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "analyses" / "README.md",
    *(p for p in sorted(DOCS.rglob("*.md")) if "generated" not in p.parts),
    *sorted(DOCS.rglob("*.ipynb")),
]  # CONTRIBUTING.md names modules on purpose
DOTTED = re.compile(r"(?<![\w.])gradscope(?:\.(?!pt\b)[A-Za-z_]\w*)+")  # gradscope.pt is a file
IMPORT = re.compile(r"\bfrom (gradscope(?:\.\w+)*) import \(?([\w, \n]+)")


def text_of(page):
    if page.suffix == ".md":
        return page.read_text(encoding="utf-8")
    cells = nbformat.read(page, as_version=4).cells
    return "\n".join(cell.source for cell in cells)


def names_in(text):
    """Every dotted name, and every name that is imported from a module of gradscope."""
    yield from DOTTED.findall(text)
    for module, names in IMPORT.findall(text):
        for name in names.split(","):
            if name.strip():
                yield f"{module}.{name.split()[0]}"


def is_public(name):
    """Whether each step from gradscope to the name is exported by the room it starts from."""
    value: object = importlib.import_module("gradscope")
    for part in name.split(".")[1:]:
        exported = getattr(value, "__all__", None)
        if part.startswith("__"):
            return hasattr(value, part)
        if hasattr(value, "__path__") and part not in (exported or ()):
            return False
        value = getattr(value, part, None)
        if value is None:
            return False
    return True


def test_a_deep_import_is_found():
    text = "from gradscope.stats.tests.tost import tost\nimport gradscope.integrations.xarray"
    assert [(name, is_public(name)) for name in names_in(text)] == [
        ("gradscope.stats.tests.tost", False),
        ("gradscope.integrations.xarray", True),
        ("gradscope.stats.tests.tost.tost", False),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_page_names_what_is_public(page):
    private = sorted({name for name in names_in(text_of(page)) if not is_public(name)})
    assert not private
