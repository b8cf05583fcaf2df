"""Serve the live page: on a port of this machine, in the foreground or beside a notebook."""

from __future__ import annotations

import atexit
import errno
import html
import re
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from gradscope.errors import UsageError
from gradscope.store.format.segments import finished_path, part_folder
from gradscope.view.app import make_app
from gradscope.view.patience import PatientProtocol
from gradscope.view.trust import is_loopback

DEFAULT_PORT = 6116
CLOSE_SECONDS = 10.0
"""Longest wait for a server beside a notebook to end."""


class Server(uvicorn.Server):
    """A server whose event streams end with it."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End streams first, so that nobody waits for them."""
        self.config.app.state.watcher.close()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def find_folder(paths: Sequence[Path]) -> tuple[Path, frozenset[Path] | None]:
    """Return the folder to serve, and the recordings to show where some were named.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or recording.
    """
    if len(paths) == 1 and paths[0].is_dir() and not paths[0].name.endswith(".h5.part"):
        return paths[0].resolve(), None
    files = []
    for path in map(finished_path, paths):
        if not path.is_file() and not part_folder(path).is_dir():
            raise FileNotFoundError(f"there is no folder and no recording at {path}")
        files.append(path.parent.resolve() / path.name)
    first, *rest = (file.parent for file in files)
    while not all(first == other or first in other.parents for other in rest):
        first = first.parent
    return first, frozenset(files)


def bind(host: str, port: int) -> socket.socket:
    """Take the port.

    Raises
    ------
    UsageError
        If it is taken, or the address is empty or not this machine's.
    """
    if not host.strip():
        raise UsageError("the host is empty; 0.0.0.0 means every address of this machine")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
        listener.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} is in use; pass another with --port, or --port 0 for any free one"
            ) from None
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host!r} port {port}: {reason}") from None
    listener.set_inheritable(False)
    return listener


def _check_names(token: str | None, hosts: Sequence[str], root_path: str) -> None:
    """Raise a UsageError for what would open the page to everybody, or under no address."""
    if token is not None and not token.strip():
        raise UsageError("the token is empty; leave out --token for a random one")
    if not all(host.strip() for host in hosts):
        raise UsageError("--allow-host takes the name of a host, such as hub.example.org")
    if root_path and not re.fullmatch(r"(/[^\s?#/\\]+)+/?|/", root_path):
        raise UsageError(f"--root-path takes a path such as /user/me/proxy/6116; got {root_path!r}")


def make_server(app: Starlette) -> Server:
    """Return a server that says nothing, and bounds connections and waiting."""
    config = uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        server_header=False,
        ws="none",
        http=PatientProtocol,
        limit_concurrency=512,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=1,
    )
    return Server(config)


def serve(
    paths: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    token: str | None = None,
    hosts: Sequence[str] = (),
    root_path: str = "",
    announce: Callable[[str], object] | None = None,
) -> None:
    """Serve until Ctrl-C; print one line with the address, and pass it to ``announce``.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or recording.
    UsageError
        If the port is taken.
    """
    _check_names(token, hosts, root_path)
    folder, only = find_folder(paths)
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    known = frozenset({host.lower(), socket.gethostname().lower(), *map(str.lower, hosts)})
    if token is None:
        known -= {socket.gethostname().lower()}
    app = make_app(folder, only=only, hosts=known, token=token, root_path=root_path)
    with bind(host, port) as listener:
        url = address(listener, host, token, root_path)
        print(f"gradscope view: {url} (Ctrl-C ends)", flush=True)
        if announce is not None:
            announce(url)
        make_server(app).run(sockets=[listener])


def address(listener: socket.socket, host: str, token: str | None, root_path: str = "") -> str:
    """Return what to open in a browser."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    name = f"[{name}]" if ":" in name else name
    query = f"?token={token}" if token else ""
    return f"http://{name}:{listener.getsockname()[1]}{root_path.rstrip('/')}/{query}"


@dataclass
class LivePage:
    """The live page in a notebook: shown as a frame, served by a thread of this process.

    Attributes
    ----------
    url : str
        What to open in a browser of this machine.
    thread : Thread
        Serves.
    height : int
        Of the frame, in pixels.
    """

    url: str
    server: Server
    thread: threading.Thread
    height: int = 900

    def _repr_html_(self) -> str:
        url = html.escape(self.url, quote=True)
        return f'<iframe src="{url}" width="100%" height="{self.height}" frameborder="0"></iframe>'

    def close(self) -> None:
        """End the server, and wait for it.

        A process that ended while a thread reads a file would hang in HDF5.
        """
        self.server.config.app.state.watcher.close()  # type: ignore[union-attr]
        self.server.should_exit = True
        self.thread.join(CLOSE_SECONDS)


def serve_in_background(paths: Sequence[Path], *, height: int = 900) -> LivePage:
    """Serve on a free port of the loopback until this process ends or the page is closed."""
    folder, only = find_folder(paths)
    listener = bind("127.0.0.1", 0)
    server = make_server(make_app(folder, only=only))
    arguments = {"sockets": [listener]}
    thread = threading.Thread(
        target=server.run, kwargs=arguments, daemon=True, name="gradscope view"
    )
    page = LivePage(address(listener, "127.0.0.1", None), server, thread, height)
    thread.start()
    atexit.register(page.close)
    return page
