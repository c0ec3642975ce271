"""HTTP/1.1 connections that are closed when what they began to send stalls, which uvicorn alone does not do."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # for all of a request's header, from its first byte or from the connection's beginning
BODY_SECONDS = 30.0  # without a byte of a body


class TimedProtocol(H11Protocol):
    """See the module."""

    _timer: asyncio.TimerHandle | None = None
    _awaited = ""  # "header" or "body": what the timer is for

    def connection_made(self, transport: Any) -> None:
        """See uvicorn."""
        super().connection_made(transport)
        self._await("header", HEADER_SECONDS)

    def data_received(self, data: bytes) -> None:
        """See uvicorn."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """See uvicorn."""
        self._await("")
        super().connection_lost(exc)

    def _look(self) -> None:
        """Wait for what is missing now."""
        if self.conn.their_state is h11.SEND_BODY:
            self._await("body", BODY_SECONDS)
        elif self.conn.their_state is not h11.IDLE or not self.conn.trailing_data[0]:
            self._await("")  # uvicorn's own timeout is for what is idle between two requests
        elif self._awaited != "header":
            self._await("header", HEADER_SECONDS)

    def _await(self, what: str, seconds: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._awaited = what
        self._timer = self.loop.call_later(seconds, self._expire) if what else None

    def _expire(self) -> None:
        if self.transport.is_closing():
            return
        if self._awaited == "body" and self.flow.read_paused:  # it is the application that does not take more
            self._await("body", BODY_SECONDS)
            return
        begun = self._awaited == "body" or self.conn.trailing_data[0]
        if begun and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._tell(f"the request's {self._awaited} did not arrive in time")
        if self.cycle is not None:
            self.cycle.disconnected = True  # before the application can answer as well
        self.transport.close()

    def _tell(self, message: str) -> None:
        headers = [("content-type", "text/plain; charset=utf-8"), ("connection", "close")]
        for event in (
            h11.Response(status_code=408, headers=headers, reason=b"Request Timeout"),
            h11.Data(data=message.encode()),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
