"""Compare runs: what differs in their settings, outcomes and gradients, layer by step.

Runs that differ only in their seed are replicates of each other and become one condition; every
other condition is compared with that of the first recording. `--over alpha` groups by a setting,
whatever else differs. `--each` makes every argument a condition: a recording, a folder or a
quoted pattern, as in
`gradscope compare --each 'before/*.h5' 'after/*.h5'`, for runs whose files do not say what changed.

Prints a table and writes one figure: the training loss, final metrics with intervals over runs, and
a map of the ratio by layer and step (of signed quantities and shares, the difference). The first
cell whose difference exceeds the variation between seeds is marked, at one error rate for the whole
map. This test needs six runs per condition at 95 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.cli.output import PICTURES, add_json, add_out, as_words, choose_target, print_json
from gradscope.cli.recordings import add_relative_depth, expand, open_together
from gradscope.cli.values import read_steps
from gradscope.errors import UsageError

if TYPE_CHECKING:
    import xarray

    from gradscope.derived.compare.conditions import Condition

SUMMARY = "compare runs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "recordings",
        metavar="RECORDING",
        nargs="+",
        help=".h5 files, folders, or quoted patterns; the first one's condition is the reference",
    )
    groups = parser.add_mutually_exclusive_group()
    groups.add_argument(
        "--over", metavar="NAMES", help="group by these settings only, as --over alpha,lr"
    )
    groups.add_argument("--each", action="store_true", help="every argument is a condition")
    parser.add_argument(
        "--quantity",
        default="grad_norm",
        metavar="NAME",
        help="a variable of the recordings (default: grad_norm)",
    )
    parser.add_argument(
        "--axis",
        default="step",
        choices=("step", "epoch", "loss"),
        help="compare at equal optimizer steps, epochs, or training losses reached (default: step)",
    )
    parser.add_argument(
        "--by",
        default="weight",
        metavar="WHAT",
        help="rows: weight, param, layer, stage or layer_type (default: weight)",
    )
    parser.add_argument("--layers", metavar="REGEX", help="only rows whose name matches")
    parser.add_argument("--steps", default=":", metavar="A:B", help="only steps A to B")
    add_relative_depth(parser)
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="of intervals and of the seed band (default: 0.95)",
    )
    _add_picture(parser)


def _add_picture(parser: argparse.ArgumentParser) -> None:
    """Add how the figure looks and where results go."""
    parser.add_argument(
        "--style", default="paper", metavar="STYLE", help="paper, notebook or talk (default: paper)"
    )
    parser.add_argument(
        "--width",
        default="page",
        metavar="WIDTH",
        help="column, page (183 mm) or a number of mm (default: page)",
    )
    add_json(parser)
    parser.add_argument(
        "--data",
        action="store_true",
        help="also write the maps' numbers beside the figure, as .csv",
    )
    add_out(parser, "FILE", "png, pdf or svg, by suffix (default: beside the first recording)")


def run(arguments: argparse.Namespace) -> int:
    """Compare, print the table, write the figure."""
    steps = read_steps(arguments.steps)
    path = choose_target(
        arguments, PICTURES, lambda: _default_path(arguments), others=[".csv"] * arguments.data
    )
    data_path = path.with_suffix(".csv") if arguments.data else None

    from gradscope.derived.cells import nonfinite_as_infinity, select_cells
    from gradscope.derived.compare.maps import compare_runs
    from gradscope.plots.draw.comparison import draw_comparison
    from gradscope.plots.figure import View, save_picture

    view = View(
        quantity=arguments.quantity,
        by=arguments.by,
        layers=arguments.layers,
        steps=steps,
        width=arguments.width,
        style=arguments.style,
    )
    files = [expand(argument) for argument in arguments.recordings]
    every = [file for own in files for file in own]
    if len(dict.fromkeys(every)) < 2:
        raise UsageError(f"a comparison needs two recordings at least; got {every[0]} alone")
    tree = open_together(every, arguments.relative_depth, steps="union")
    try:
        conditions = _conditions(tree, arguments, files)
        cells = select_cells(tree, view.quantity, by=view.by, layers=view.layers, steps=steps)
        data = nonfinite_as_infinity(cells)
        comparison = compare_runs(
            tree, data, conditions, axis=arguments.axis, confidence=arguments.confidence
        )
        picture = draw_comparison(comparison, tree, view)
        save_picture(picture, view.style, path, data_path=data_path)
    finally:
        tree.close()
    written = [str(written) for written in (path, data_path) if written is not None]
    if arguments.json:
        print_json({**comparison.as_dict(), "files": written})
    else:
        print(comparison, *written, sep="\n\n" if len(written) < 2 else "\n")
    return 0


def _conditions(
    tree: xarray.DataTree, arguments: argparse.Namespace, files: list[list[Path]]
) -> list[Condition]:
    from gradscope.derived.compare.conditions import conditions_by_label, conditions_by_setting

    if not arguments.each:
        over = [name.strip() for name in (arguments.over or "").split(",") if name.strip()]
        conditions = conditions_by_setting(tree, over)
        if len(conditions) > 1 or over:
            return conditions
    elif len(arguments.recordings) < 2:
        raise UsageError("--each makes every argument a condition, so it takes two at least")
    if len(arguments.recordings) < 2:
        return conditions_by_setting(tree)
    names = dict(zip(tree.dataset["run"].values, _labels(arguments.recordings, files), strict=True))
    return conditions_by_label(tree, list(names.values()))


def _labels(recordings: list[str], files: list[list[Path]]) -> list[str]:
    """Name each file by the argument that named it first."""
    from gradscope.store.read.run_attributes import as_text

    label: dict[Path, str] = {}
    for argument, own in zip(recordings, files, strict=True):
        for file in own:
            label.setdefault(file, as_text(argument.removesuffix(".h5")))
    return list(label.values())


def _default_path(arguments: argparse.Namespace) -> Path:
    """Return the name of the picture beside the first recording: its quantity and axis."""
    first = Path(arguments.recordings[0])
    folder = first if first.is_dir() and first.suffix != ".part" else first.parent
    axis = "" if arguments.axis == "step" else f"-{arguments.axis}"
    return folder / f"compare-{as_words(arguments.quantity)}{axis}.png"
