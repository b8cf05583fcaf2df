"""The addresses of the live page. All answers are read-only, and all work is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from plotly.offline import get_plotlyjs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gradscope import __version__
from gradscope.errors import GradscopeError
from gradscope.report.encode import to_json
from gradscope.view import answers
from gradscope.view.catalog import Found
from gradscope.view.trust import Trust
from gradscope.view.watch import Watcher

MAX_WAITING = 48
MAX_CACHED = 48
ASSETS = {
    "report": ("unpack.js", "picture.js", "explore.js"),
    "view": ("view.css", "client.js", "table.js", "single.js", "many.js", "main.js"),
}
TYPES = {"js": "text/javascript", "css": "text/css"}


class Desk:
    """Does blocking work on few threads, refuses what would pile up, and keeps recent answers."""

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(2)
        self._kept: OrderedDict[Any, bytes] = OrderedDict()
        self._waiting = 0

    async def answer(self, key: Any, work: Callable[[], Any]) -> Response:
        """Return the JSON of what ``work`` returns, from the cache where the key is known."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return _json(self._kept[key])
        if self._waiting >= MAX_WAITING:
            raise HTTPException(503, "busy; try again", {"Retry-After": "2"})
        self._waiting += 1
        try:
            body = await to_thread.run_sync(lambda: encode(work()), limiter=self._limiter)
        except (GradscopeError, OSError) as error:
            return _json(encode({"error": " ".join(str(error).split())}), 422)
        finally:
            self._waiting -= 1
        if len(body) < 4_000_000:
            self._kept[key] = body
            while len(self._kept) > MAX_CACHED:
                self._kept.popitem(last=False)
        return _json(body)


def encode(value: Any) -> bytes:
    """Write JSON in UTF-8; halves of surrogate pairs, from names that are no text, become "?"."""
    return to_json(value).encode("utf-8", "replace")


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def make_app(
    folder: Path,
    *,
    only: frozenset[Path] | None = None,
    hosts: frozenset[str] = frozenset(),
    token: str | None = None,
    root_path: str = "",
) -> Starlette:
    """Return the application over a folder of recordings.

    Parameters
    ----------
    folder : Path
        Nothing outside it is read, and nothing at all is written.
    only : frozenset of Path, optional
        Show these recordings alone.
    hosts : frozenset of str
        Names under which the server may be asked, besides those of the loopback.
    token : str, optional
        What clients must show.
    root_path : str
        Prefix of a proxy.
    """
    watcher = Watcher(folder, only)
    desk = Desk()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(watcher.run())
        yield
        watcher.close()
        task.cancel()

    async def table(request: Request) -> Response:
        since = _number(request, "since", 0, -1, 2**53)
        rows = [row for row in list(watcher.rows.values()) if row["revision"] > since]
        answer = {"folder": str(watcher.root), "revision": watcher.revision, "rows": rows}
        return _json(encode(answer | {"keys": list(watcher.rows), "version": __version__}))

    async def events(request: Request) -> Response:
        if watcher.is_full:
            raise HTTPException(503, "too many listeners")
        headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
        return StreamingResponse(watcher.stream(), media_type="text/event-stream", headers=headers)

    async def ask(request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in answers.KINDS:
            raise HTTPException(404)
        runs = _runs(request, watcher)
        query = tuple(sorted(request.query_params.multi_items()))
        key = (kind, query, tuple((run.key, run.signature) for run in runs))
        parameters = dict(request.query_params)
        return await desk.answer(key, lambda: answers.KINDS[kind](runs, parameters, watcher.rows))

    routes = [
        Route("/", _page),
        Route("/static/{name}", _static),
        Route("/api/runs", table),
        Route("/api/events", events),
        Route("/api/{kind}", ask),
    ]
    trust = Middleware(Trust, hosts=hosts, token=token, root_path=root_path)
    app = Starlette(routes=routes, lifespan=lifespan, middleware=[trust])
    app.state.watcher = watcher
    return app


def _runs(request: Request, watcher: Watcher) -> list[Found]:
    keys = [key for key in request.query_params.get("runs", "").split(".") if key]
    if not 0 < len(keys) <= answers.MAX_RUNS:
        raise HTTPException(422, f"between 1 and {answers.MAX_RUNS} runs, please")
    runs = [watcher.found[key] for key in keys if key in watcher.found]
    if not runs:
        raise HTTPException(404, "there is no such run (any more)")
    if written := [run for run in runs if not run.is_blank]:
        return written
    raise HTTPException(422, f"{runs[0].name} has begun; nothing is written yet")


def _number(request: Request, name: str, default: int, low: int, high: int) -> int:
    try:
        return min(max(int(request.query_params.get(name, default)), low), high)
    except ValueError:
        raise HTTPException(422, f"{name} must be a whole number") from None


async def _page(request: Request) -> Response:
    return Response(_asset("gradscope.view", "index.html"), media_type="text/html")


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    kept = {"Cache-Control": "max-age=3600" if name == "plotly.js" else "no-cache"}
    if name == "plotly.js":
        headers = kept | {"Content-Encoding": "gzip"}
        body = await to_thread.run_sync(_library)
        return Response(body, media_type="text/javascript", headers=headers)
    for room, names in ASSETS.items():
        if name in names:
            kind = TYPES[name.rpartition(".")[2]]
            return Response(_asset(f"gradscope.{room}", name), media_type=kind, headers=kept)
    raise HTTPException(404)


def _asset(package: str, name: str) -> bytes:
    folder = resources.files(package)
    inner = folder.joinpath("static") if package == "gradscope.view" else folder
    return inner.joinpath(name).read_bytes()


@cache
def _library() -> bytes:
    """Return plotly.js as Python's plotly carries it, compressed."""
    return gzip.compress(get_plotlyjs().encode(), 6, mtime=0)
