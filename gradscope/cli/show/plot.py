"""Plot a recording by layer and step, in network order, with the loss above.

The image is written beside the recording unless --out is given, and its path is printed.
"""

from __future__ import annotations

import argparse
import glob
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.cli.output import PICTURES, add_out, as_words, check_out, name_some, named_after
from gradscope.cli.recordings import find_recordings
from gradscope.cli.values import read_numbers, read_steps

if TYPE_CHECKING:
    import xarray

SUMMARY = "draw a recording"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "recordings",
        metavar="RECORDING",
        nargs="*",
        help="a .h5 file, finished or running, a folder or a quoted pattern; several are compared "
        "(default: the newest in runs/)",
    )
    parser.add_argument(
        "--quantity",
        default="grad_norm",
        metavar="NAME",
        help="a variable of the recording (default: grad_norm)",
    )
    parser.add_argument(
        "--kind",
        default="heatmap",
        metavar="KIND",
        help="kind of picture; `--kind list` names all (default: heatmap)",
    )
    parser.add_argument(
        "--by",
        default="weight",
        metavar="WHAT",
        help="rows: weight (of each weight layer), param (all parameters) or layer "
        "(root of the sum of squares; norms only) (default: weight)",
    )
    parser.add_argument(
        "--optimizer",
        metavar="NAME",
        help="of several optimizers, only the rows and steps of this one",
    )
    parser.add_argument("--layers", metavar="REGEX", help="only rows whose name matches")
    parser.add_argument(
        "--steps", default=":", metavar="A:B", help="only steps A to B; either may be left out"
    )
    _configure_look(parser)
    parser.add_argument(
        "--alphas",
        metavar="LIST",
        default="-0.3,-0.1,0,0.1,0.5",
        help="exponents for effective-lr, as --alphas=-0.1,0,0.5",
    )
    parser.add_argument(
        "--data",
        action="store_true",
        help="also write the plotted numbers beside the figure, as .csv",
    )
    add_out(parser, "FILE", "png, pdf or svg, by suffix; an older picture is always replaced")


def _configure_look(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--step-axis",
        default="auto",
        choices=("auto", "linear", "log"),
        help="auto is log where steps were recorded ever more rarely",
    )
    parser.add_argument(
        "--style", default="paper", metavar="STYLE", help="paper, notebook or talk (default: paper)"
    )
    parser.add_argument(
        "--width",
        default="column",
        metavar="WIDTH",
        help="column (89 mm), page (183 mm) or a number of mm (default: column)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw, write, and print the path."""
    if arguments.kind == "list":
        return list_kinds()
    recordings = find_recordings(arguments.recordings, "plot")
    steps, alphas = read_steps(arguments.steps), read_numbers(arguments.alphas)
    path = output_path(arguments, recordings)

    from gradscope.derived.select import not_shown
    from gradscope.plots.figure import View, draw_to_file

    view = View(
        quantity=arguments.quantity,
        kind=arguments.kind,
        by=arguments.by,
        layers=arguments.layers,
        optimizer=arguments.optimizer,
        steps=steps,
        step_scale=arguments.step_axis,
        alphas=alphas,
        width=arguments.width,
        style=arguments.style,
    )
    data_path = path.with_suffix(".csv") if arguments.data else None
    tree = open_all(recordings)
    try:
        draw_to_file(tree, view, path, data_path=data_path)
        hidden = not_shown(tree).get("other", []) if view.by == "weight" else []
    finally:
        tree.close()
    print(path)
    if hidden:
        words = f"{len(hidden):,} parameter{'s' * (len(hidden) > 1)} of no weight layer"
        print(f"not shown: {words} ({name_some(hidden)}); see --by param", file=sys.stderr)
    if data_path is not None:
        print(data_path)
    return 0


def list_kinds() -> int:
    """Print every kind of picture with its summary."""
    from gradscope.plots.figure import KINDS

    width = max(map(len, KINDS))
    for kind in KINDS.values():
        how = "" if kind.of_many is None else " (one or several)" if kind.of_one else " (several)"
        print(f"{kind.name:{width}}  {kind.summary}{how}")
    return 0


def open_all(recordings: list[Path]) -> xarray.DataTree:
    """Open one recording, or many as one tree at the steps that all of them have."""
    from gradscope.store.read.recording import open_recording
    from gradscope.store.read.runs import open_runs

    if len(recordings) == 1:
        return open_recording(recordings[0])
    return open_runs(map(glob.escape, map(str, recordings)), steps="common")


def output_path(arguments: argparse.Namespace, recordings: list[Path]) -> Path:
    """Say where the picture goes.

    Raises
    ------
    UsageError
        If its suffix is no picture's, or its folder does not exist.
    """
    if arguments.out is not None:
        return check_out(arguments.out, PICTURES)
    from gradscope.plots.figure import KINDS

    kind = "" if arguments.kind == "heatmap" else f"-{arguments.kind}"
    known = KINDS.get(arguments.kind)
    words = arguments.kind if known and not known.of_quantity else f"{arguments.quantity}{kind}"
    return named_after(arguments.recordings, recordings, f"{as_words(words)}.png")
