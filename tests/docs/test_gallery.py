"""The gallery shows every kind of picture, each beside the command that drew it, and small."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from gradscope.cli.main import build_parser
from gradscope.plots.figure import KINDS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")


def load_script():
    spec = importlib.util.spec_from_file_location("make_gallery", DOCS / "make_gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


def test_every_kind_and_compare_is_shown():
    parser = build_parser()
    drawn = [parser.parse_args(words[1:]) for words in script.commands(PAGE)]
    kinds = {arguments.kind for arguments in drawn if arguments.command == "plot"}
    assert kinds == set(KINDS)
    assert any(arguments.command == "compare" for arguments in drawn)


def test_shown_pictures_are_those_that_commands_write():
    shown = set(re.findall(r"\(images/gallery/(\S+)\)", PAGE))
    written = {
        path.name
        for words in script.commands(PAGE)
        if (path := script.output(words)) is not None and path.suffix == ".png"
    }
    assert shown == written == {path.name for path in script.PICTURES.iterdir()}


def test_pictures_are_small():
    assert max(path.stat().st_size for path in script.PICTURES.iterdir()) <= 80_000
