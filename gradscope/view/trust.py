"""Who may ask: the Host header, a token off the loopback, and headers that confine the page."""

from __future__ import annotations

import hmac
import ipaddress
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "gradscope-view"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self' http://localhost:* http://127.0.0.1:* https://localhost:* "
    "vscode-webview:"
)
"""The page may load from its own server only; a notebook on this machine may frame it."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
MAX_QUERY = 16_384


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is this machine's own.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str:
    """Return the name in a Host header, without the port.

    >>> host_name("[::1]:80"), host_name("localhost:6116")
    ('::1', 'localhost')
    """
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


class Trust:
    """Refuse what does not come from a page of this server.

    Another site that has its name resolve to this machine (DNS rebinding) is given away by the
    Host header. Without a token only loopback names pass; with one also plain addresses, which no
    rebinding can use.

    Parameters
    ----------
    app : ASGI application
    hosts : frozenset of str
        More names to accept.
    token : str, optional
        What a client must show: once as ``?token=``, then as a cookie; or as a bearer.
    root_path : str
        Prefix of a proxy, whether it strips it or not.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: frozenset[str], token: str | None, root_path: str = ""
    ) -> None:
        self._app, self._hosts, self._token = app, hosts, token
        self._root_path = root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._root_path and (scope["path"] + "/").startswith(self._root_path + "/"):
            scope = {**scope, "root_path": self._root_path}
        answer = self._refusal(scope, headers) or self._app

        async def confined(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    sent[name] = value
                sent.setdefault("Cache-Control", "no-store")
            await send(message)

        await answer(scope, receive, confined)

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("only GET\n", 405)
        if len(scope["query_string"]) > MAX_QUERY:
            return PlainTextResponse("the address is too long\n", 414)
        if not self._is_known(host_name(headers.get("host", ""))):
            return PlainTextResponse("unknown Host; pass --allow-host NAME to accept it\n", 421)
        if headers.get("sec-fetch-site") == "cross-site" and "/api/" in scope["path"]:
            return PlainTextResponse("not for other sites\n", 403)
        return self._check_token(scope, headers) if self._token else None

    def _is_known(self, host: str) -> bool:
        if is_loopback(host) or host in self._hosts:
            return True
        if not self._token:
            return False
        try:
            return bool(ipaddress.ip_address(host))
        except ValueError:
            return False

    def _check_token(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        cookies = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except Exception:
            cookies = SimpleCookie()
        shown = [cookies[COOKIE].value] if COOKIE in cookies else []
        shown.append(headers.get("authorization", "").removeprefix("Bearer "))
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        asked = [value for name, value in query if name == "token"]
        if any(self._fits(value) for value in asked):
            rest = urlencode([pair for pair in query if pair[0] != "token"])
            answer = RedirectResponse(f"?{rest}" if rest else "./", 303)
            answer.set_cookie(COOKIE, str(self._token), httponly=True, samesite="strict")
            return answer
        if any(self._fits(value) for value in shown):
            return None
        return PlainTextResponse("a token is needed: use the address that was printed\n", 401)

    def _fits(self, value: str) -> bool:
        return hmac.compare_digest(value.encode("utf-8", "replace"), str(self._token).encode())
