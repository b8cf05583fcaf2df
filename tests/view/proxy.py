"""A reverse proxy with a prefix, stripped or not, as jupyter-server-proxy offers both."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = "/user/x/proxy/8000"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade"}


class ReverseProxy:
    """Passes requests below the prefix on to a port of this machine; everything else is 404.

    Parameters
    ----------
    port : int
        Of the server behind.
    is_stripping : bool
        Whether the server behind sees paths without the prefix.
    """

    def __init__(self, port: int, *, is_stripping: bool) -> None:
        self.asked: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # an answer ends with its connection, streams too

            def do_GET(self) -> None:
                proxy.asked.append(self.path)
                if self.path == PREFIX:
                    self.send_response(302)
                    self.send_header("Location", f"{PREFIX}/")
                    self.end_headers()
                    return
                if not self.path.startswith(f"{PREFIX}/"):
                    self.send_error(404)
                    return
                path = self.path.removeprefix(PREFIX) if is_stripping else self.path
                behind = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                behind.request("GET", path, headers=dict(self.headers))
                answer = behind.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.end_headers()
                try:
                    while piece := answer.read1(65536):
                        self.wfile.write(piece)
                        self.wfile.flush()
                except OSError:  # the browser has left, or the stream was idle for a minute
                    pass
                finally:
                    behind.close()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{PREFIX}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End the proxy."""
        self._server.shutdown()
        self._server.server_close()
