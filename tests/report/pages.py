"""A page as a program sees it: its texts by element, and its numbers unpacked."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import numpy as np

from gradscope.report.encode import Grid, decode, unpack

VOID = {"meta", "br", "hr", "img", "link", "input"}


@dataclass
class Page(HTMLParser):
    """What `html.parser` finds."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.feed(self.html)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def text_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    def all_text(self) -> str:
        return "\n".join(text for name, text in self.texts if name not in ("script", "style"))

    @property
    def data(self) -> dict[str, Any]:
        """The numbers of the page."""
        start = self.html.index('id="gradscope-data">') + len('id="gradscope-data">')
        return json.loads(unpack(self.html[start : self.html.index("</script>", start)]))


def array(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=f"<{dtype}")


def values_of(run: dict[str, Any], quantity: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Decode one map of the page: rows by columns, and its columns."""
    grid = run["grids"][quantity]
    columns = run["columns"][grid["columns"]]
    codes = array(grid["codes"], "u2").reshape(len(grid["names"]), -1)
    values = decode(Grid(codes, np.array(grid["low"]), np.array(grid["step"])))
    kinds = {"edges": "f8", "first": "f8", "last": "f8", "count": "i4"}
    return values, {key: array(columns[key], kind) for key, kind in kinds.items()}
