"""Plot recordings, by default as a heatmap over layers and steps with the loss above.

The image is written beside the recording unless --out is given, and its path is printed. An image
that exists is kept: the new one gets a number, unless --overwrite is given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.cli.output import (
    PICTURES,
    add_json,
    add_out,
    as_words,
    choose_target,
    name_some,
    named_after,
    print_json,
)
from gradscope.cli.recordings import add_relative_depth, find_recordings, open_together
from gradscope.cli.values import read_numbers, read_steps

if TYPE_CHECKING:
    import xarray

SUMMARY = "plot recordings"


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
        help="kind of plot; `--kind list` lists them (default: heatmap)",
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
        help="only the rows and steps of this one of several optimizers",
    )
    parser.add_argument("--layers", metavar="REGEX", help="only rows whose name matches")
    parser.add_argument(
        "--steps", default=":", metavar="A:B", help="only steps A to B; either end may be omitted"
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
    add_json(parser)
    add_out(parser, "FILE", "png, pdf or svg, by suffix (default: beside the recording)")


def _configure_look(parser: argparse.ArgumentParser) -> None:
    add_relative_depth(parser)
    parser.add_argument(
        "--step-axis",
        default="auto",
        choices=("auto", "linear", "log"),
        help="scale of the step axis; auto is logarithmic for log-spaced steps (default: auto)",
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
    path = choose_target(
        arguments,
        PICTURES,
        lambda: default_path(arguments, recordings),
        others=[".csv"] * arguments.data,
    )

    from gradscope.derived.select import not_shown
    from gradscope.plots.figure import View, draw_picture, save_picture

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
    tree = open_all(recordings, arguments.kind, arguments.relative_depth)
    try:
        picture = draw_picture(tree, view)
        save_picture(picture, view.style, path, data_path=data_path)
        hidden = not_shown(tree).get("other", []) if view.by == "weight" else []
    finally:
        tree.close()
    tell(arguments, recordings, [p for p in (path, data_path) if p], picture.description, hidden)
    return 0


def tell(
    arguments: argparse.Namespace,
    recordings: Sequence[Path],
    files: Sequence[Path],
    description: str,
    hidden: Sequence[str],
) -> None:
    """Print where the picture is, and what of the recording is not in it."""
    if arguments.json:
        found = {"files": list(map(str, files)), "recordings": list(map(str, recordings))}
        found |= {"kind": arguments.kind, "quantity": arguments.quantity, "by": arguments.by}
        print_json(found | {"description": description, "not_shown": list(hidden)})
        return
    print(*files, sep="\n")
    if hidden:
        words = f"{len(hidden):,} parameter{'s' * (len(hidden) > 1)} of no weight layer"
        print(f"not shown: {words} ({name_some(hidden)}); see --by param", file=sys.stderr)


def list_kinds() -> int:
    """Print every kind of picture with its summary."""
    from gradscope.plots.figure import KINDS

    width = max(map(len, KINDS))
    for kind in KINDS.values():
        how = "" if kind.of_many is None else " (one or several)" if kind.of_one else " (several)"
        print(f"{kind.name:{width}}  {kind.summary}{how}")
    return 0


def open_all(recordings: list[Path], kind: str, relative_depth: int | None) -> xarray.DataTree:
    """Open one recording, or many as one tree at the steps that the kind of picture takes."""
    from gradscope.plots.figure import KINDS
    from gradscope.store.read.recording import open_recording

    if len(recordings) == 1:
        return open_recording(recordings[0])
    known = KINDS.get(kind)
    groups, steps = (known.groups, known.steps) if known else (None, "common")
    return open_together(recordings, relative_depth, steps=steps, groups=groups)


def default_path(arguments: argparse.Namespace, recordings: Sequence[Path]) -> Path:
    """Return the name of a picture beside the recording: its quantity and kind."""
    from gradscope.plots.figure import KINDS

    kind = "" if arguments.kind == "heatmap" else f"-{arguments.kind}"
    known = KINDS.get(arguments.kind)
    words = arguments.kind if known and not known.of_quantity else f"{arguments.quantity}{kind}"
    return named_after(arguments.recordings, recordings, f"{as_words(words)}.png")
