"""Connections that do not hold up others: requests come soon, and the idle make room."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10.0
"""Time for a request to arrive as a whole; then its connection is closed."""

MAX_SILENT = 128
"""Connections without a whole request that may wait; of more, the oldest is closed."""


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that closes connections on which no whole request arrives.

    Half a request costs nothing until it is whole, so clients that hang there are told apart from
    those that are being answered. A flood of them closes its own connections, the oldest first.
    """

    _silent: dict[PatientProtocol, asyncio.TimerHandle] = {}  # noqa: RUF012 - of all, in order

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Take what came; a whole request ends the wait."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif not self.transport.is_closing():
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget()
        super().connection_lost(exc)

    def _expect(self) -> None:
        if self in self._silent:
            return
        self._silent[self] = self.loop.call_later(REQUEST_SECONDS, self._give_up)
        own = [other for other in self._silent if other.loop is self.loop]
        for other in own[: max(len(own) - MAX_SILENT, 0)]:
            other._give_up()

    def _give_up(self) -> None:
        self._forget()
        self.transport.close()

    def _forget(self) -> None:
        timer = self._silent.pop(self, None)
        if timer is not None:
            timer.cancel()
