"""Draw a recording: layer by step, in network order, with the loss above.

The picture is written beside the recording unless --out says otherwise; its path is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gradscope.errors import UsageError

SUMMARY = "draw a recording"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("recording", metavar="RECORDING", help="a .h5 file, finished or running")
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
        help="heatmap, profile or trajectories (default: heatmap)",
    )
    parser.add_argument(
        "--by",
        default="weight",
        metavar="WHAT",
        help="rows: weight (of each weight layer), param (all parameters) or layer "
        "(root of the sum of squares; norms only) (default: weight)",
    )
    parser.add_argument("--layers", metavar="REGEX", help="only rows whose name matches")
    parser.add_argument(
        "--steps", default=":", metavar="A:B", help="only steps A to B; either may be left out"
    )
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
    parser.add_argument("--out", metavar="FILE", help="png, pdf or svg, by suffix")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Draw, write, and print the path."""
    steps = read_steps(arguments.steps)
    path = output_path(arguments)

    from gradscope.plots.figure import View, draw_to_file
    from gradscope.store.reader import open_recording

    view = View(
        quantity=arguments.quantity, kind=arguments.kind, by=arguments.by,
        layers=arguments.layers, steps=steps, step_scale=arguments.step_axis,
        width=arguments.width, style=arguments.style)  # fmt: skip
    tree = open_recording(arguments.recording)
    try:
        draw_to_file(tree, view, path)
    finally:
        tree.close()
    print(path)
    return 0


def read_steps(text: str) -> tuple[int | None, int | None]:
    """Read ``A:B``.

    Raises
    ------
    UsageError
        If it is something else.
    """
    first, colon, last = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return (int(first) if first else None, int(last) if last else None)
    except ValueError:
        raise UsageError(f"--steps takes A:B, as 1:500, 100: or :50; got {text!r}") from None


def output_path(arguments: argparse.Namespace) -> Path:
    """Say where the picture goes.

    Raises
    ------
    UsageError
        If its suffix is no picture's, or its folder does not exist.
    """
    if arguments.out is not None:
        path = Path(arguments.out)
        if path.suffix.lower() not in (".png", ".pdf", ".svg"):
            raise UsageError(f"--out takes a name that ends in .png, .pdf or .svg; got {path}")
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}: make it, or choose another --out")
        return path
    recording = Path(arguments.recording)
    name = recording.name.removesuffix(".part").removesuffix(".h5")
    kind = "" if arguments.kind == "heatmap" else f"-{arguments.kind}"
    quantity = "".join(c if c.isalnum() or c == "_" else "-" for c in arguments.quantity)
    return recording.with_name(f"{name}-{quantity}{kind}.png")
