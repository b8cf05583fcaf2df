"""Write one page that shows recordings: heatmap to zoom and hover, loss, health, configuration.

The page is a single file that needs no network. Several recordings are compared in it. It stands
beside the first recording unless --out says otherwise; its path and size are printed. A page that
exists is kept: the new one gets a number, unless --overwrite is given.
"""

from __future__ import annotations

import argparse
import webbrowser
from glob import escape

from gradscope.cli.output import PAGES, add_json, add_out, choose_target, named_after, print_json
from gradscope.cli.recordings import find_recordings
from gradscope.errors import UsageError

SUMMARY = "write an interactive page about one or many recordings"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "recordings",
        metavar="RECORDING",
        nargs="*",
        help="a .h5 file, finished or running, a folder or a quoted pattern; several are compared "
        "(default: the newest in runs/)",
    )
    add_json(parser)
    add_out(parser, "FILE", "the page, a name that ends in .html (default: beside the recording)")
    parser.add_argument(
        "--quantities",
        metavar="LIST",
        help="variables to pick from, between commas, or all (default: the usual nine)",
    )
    parser.add_argument(
        "--by",
        default="weight",
        metavar="WHAT",
        help="rows: weight (of each weight layer), param (all parameters), layer, stage or "
        "layer_type (default: weight)",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print where it is."""
    recordings = find_recordings(arguments.recordings, "report")
    out = choose_target(
        arguments, PAGES, lambda: named_after(arguments.recordings, recordings, "report.html")
    )
    asked = read_names(arguments.quantities)

    from gradscope.report.page import make_report

    made = make_report(
        [escape(str(file)) for file in recordings], out, quantities=asked, by=arguments.by
    )
    n_bytes = out.stat().st_size
    if arguments.json:
        found = {"files": [str(out)], "n_bytes": n_bytes, "by": arguments.by}
        print_json(found | {"runs": made.runs, "quantities": made.quantities})
    else:
        print(f"{out} ({n_bytes / 1e6:.1f} MB)")
    if arguments.open:
        webbrowser.open(out.absolute().as_uri())
    return 0


def read_names(text: str | None) -> list[str] | None:
    """Read names between commas.

    Raises
    ------
    UsageError
        If there is none.
    """
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"--quantities takes names between commas, or all; got {text!r}")
    return names
