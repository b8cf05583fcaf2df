"""Rebuild every figure of the study from committed results: ``python -m figures.all``.

A figure is a module ``fig_NAME.py`` in this folder or in one below it, with

- ``INPUTS``: the files it reads, below ``data/``;
- ``CAPTION``: what stands under it, with the numbers' units and what bars or bands mean;
- ``draw() -> Figure``: called inside the style of gradscope's figures, 7 pt for print.

Each is written to ``figures/rendered/`` as PDF (for print) and PNG (for reading here), the same
bytes each time in one environment, with the caption as alternative text; ``figures/README.md``
shows them all. Names choose some: ``python -m figures.all fig_calibration``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from figures.parts.results import DATA
from gradscope.errors import unknown
from gradscope.plots.axes.style import figure_style, save_figure

HERE = Path(__file__).parent
RENDERED = HERE / "rendered"
README = HERE / "README.md"
MARK = "<!-- python -m figures.all writes what follows -->\n"


def find_figures() -> dict[str, ModuleType]:
    """Import every figure of the study, by name."""
    paths = sorted(HERE.rglob("fig_*.py"), key=lambda path: path.stem)
    modules = {path.stem: path.relative_to(HERE.parent).with_suffix("") for path in paths}
    return {name: importlib.import_module(".".join(m.parts)) for name, m in modules.items()}


def missing_inputs(figure: ModuleType) -> list[str]:
    """Return the inputs of a figure that are not there."""
    return [name for name in figure.INPUTS if not (DATA / name).is_file()]


def render(name: str, figure: ModuleType, folder: Path) -> list[Path]:
    """Draw one figure and write it as PDF and PNG."""
    with figure_style():
        drawn = figure.draw()
        paths = [folder / f"{name}.{suffix}" for suffix in ("pdf", "png")]
        return [save_figure(drawn, path, description=figure.CAPTION) for path in paths]


def page(figures: dict[str, ModuleType]) -> str:
    """Return the part of the README that shows all figures."""
    return "\n".join(_section(name, figure) for name, figure in figures.items())


def _section(name: str, figure: ModuleType) -> str:
    inputs = ", ".join(f"`data/{path}`" for path in figure.INPUTS)
    picture = f"\n## {name}\n\n![{name}](rendered/{name}.png)\n\n{figure.CAPTION}\n\n"
    source = Path(str(figure.__file__)).relative_to(HERE).as_posix()
    return f"{picture}[PDF](rendered/{name}.pdf) · drawn by [{name}.py]({source}) from {inputs}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Rebuild the figures that are named, or all, and the page that shows them."""
    parser = argparse.ArgumentParser(
        prog="python -m figures.all",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as fig_calibration")
    names = parser.parse_args(argv).names
    found = find_figures()
    for name in names:
        if name not in found:
            parser.error(unknown("figure", name, found))
    lacking = {name: files[0] for name in found if (files := missing_inputs(found[name]))}
    for name in names:
        if name in lacking:
            parser.error(f"{name} needs data/{lacking[name]}; data/README.md says what makes it")
    # A study of which a part has been run has some of its figures.
    found = {name: figure for name, figure in found.items() if name not in lacking}
    for name, file in lacking.items():
        print(f"{name} is left out: there is no data/{file} yet", file=sys.stderr)
    chosen = {name: found[name] for name in names or found}
    RENDERED.mkdir(exist_ok=True)
    for name, figure in chosen.items():
        print(*render(name, figure, RENDERED))
    head = README.read_text(encoding="utf-8").partition(MARK)[0]
    README.write_text(head + MARK + page(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
