"""Watch runs in the browser while they train: a local page over a folder of recordings.

The page is served to this machine only, unless --host is given; then it requires the token in the
printed address. Nothing is written, and no request leaves the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import webbrowser

from gradscope.cli.recordings import as_path
from gradscope.errors import UsageError

SUMMARY = "watch runs in the browser while they train"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "paths",
        metavar="DIR|RUN",
        nargs="*",
        default=["."],
        help="a folder of recordings, or recordings (default: this folder)",
    )
    parser.add_argument(
        "--port", type=int, default=6116, help="port, 0 for any free one (default: 6116)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to serve on (default: loopback)"
    )
    parser.add_argument(
        "--token", help="access token (default: none on the loopback, else a random one)"
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="also accept requests for this host name, as behind a proxy; may be repeated",
    )
    parser.add_argument(
        "--root-path",
        default="",
        metavar="PREFIX",
        help="path under which a proxy serves the page, such as /user/me/proxy/6116",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    try:
        from gradscope.view.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise UsageError(
            f"the live page needs {error.name}: pip install 'gradscope[view]'"
        ) from None
    with contextlib.suppress(KeyboardInterrupt):
        serve(
            [as_path(path, "a folder or a recording") for path in arguments.paths],
            host=arguments.host,
            port=arguments.port,
            token=arguments.token,
            hosts=arguments.allow_host,
            root_path=arguments.root_path,
            announce=webbrowser.open if arguments.open else None,
        )
    return 0
