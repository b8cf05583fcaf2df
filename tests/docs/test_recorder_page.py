"""The table of variables in docs/recorder.md is that of the schema.

``python tests/docs/test_recorder_page.py`` writes it.
"""

from __future__ import annotations

from pathlib import Path

from gradscope import schema

PAGE = Path(__file__).parents[2] / "docs" / "recorder.md"
BEGIN, END = "gradscope.schema) -->\n", "<!-- end table -->"


def table() -> str:
    lines = []
    for group in schema.GROUPS.values():
        lines += [f"### `/{group.name}`", "", group.description, ""]
        if not group.variables:
            continue
        lines += [
            "| variable | dims | meaning | formula | unit | phase | over parameters |",
            "|---|---|---|---|---|---|---|",
        ]
        for v in group.variables.values():
            formula = f"`{v.formula}`".replace("|", "\\|") if v.formula else ""
            cells = [f"`{v.name}`", ", ".join(v.dims), v.long_name, formula, v.units, v.phase]
            cells.append("" if v.aggregation.rule == "none" else str(v.aggregation))
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def test_page_holds_every_variable():
    text = PAGE.read_text(encoding="utf-8")
    is_current = text.split(BEGIN)[1].split(END)[0] == table()
    assert is_current, "write the table anew: python -m tests.docs.test_recorder_page"


if __name__ == "__main__":
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(head + BEGIN + table() + END + rest.split(END)[1], encoding="utf-8")
