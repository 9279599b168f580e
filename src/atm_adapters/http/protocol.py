"""Limits on what a client may send and how long it may take, before there is a request at all.

uvicorn sets none with httptools: a connection that sends nothing, or half a request, stays open for
ever, and a head may have any size. This subclass leans on how uvicorn's class and httptools call each
other, which no documentation promises; the tests play every case over a socket.
"""

import asyncio
import json
from http import HTTPStatus
from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from atm_adapters.http.transport import JoiningTransport

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 100


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a deadline for each request to have arrived whole, and a bound on its head.

    What is refused here is answered with a problem document, like every other refusal, and the
    connection is closed.
    """

    read_seconds: ClassVar[float] = 10.0  # for a request to arrive
    _deadline: asyncio.TimerHandle | None = None
    _is_arriving = False  # a request, of which the first byte is here and the last one not
    _in_head = True
    _head_bytes = 0  # of a head that is not whole
    _refusal = (HTTPStatus.BAD_REQUEST, "This is not a well-formed HTTP/1.1 request.")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Wrap the transport, and wait for the first request."""
        super().connection_made(cast("asyncio.Transport", JoiningTransport(transport, self.loop)))
        self._deadline = self.loop.call_later(self.read_seconds, self._on_deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._end_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived; a request that is not whole by then has until the deadline."""
        self._is_arriving = True
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEAD_TOO_LARGE)
        elif self._is_arriving and self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.read_seconds, self._on_deadline)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._is_arriving = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Let the request go on unless its head is too large."""
        self._in_head = False
        self._head_bytes = 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_FIELDS:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEAD_TOO_LARGE
            raise ValueError(_HEAD_TOO_LARGE)  # upon which httptools stops, and uvicorn calls send_400_response()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request: it is whole."""
        self._is_arriving = False
        self._in_head = True
        self._end_deadline()
        super().on_message_complete()

    def send_400_response(self, _msg: str) -> None:
        """Refuse what httptools did not take."""
        self._refuse(*self._refusal)

    def _on_deadline(self) -> None:
        self._deadline = None
        if self._is_arriving:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The request did not arrive within {self.read_seconds:g} seconds; try again.",
            )
        else:  # who has said nothing is told nothing
            self.transport.close()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        self._end_deadline()
        if self.transport.is_closing():
            return
        # An earlier request on this connection, whose answer must not be garbled.
        is_answering = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if not is_answering:
            self.transport.write(_problem(status, detail))
        self.transport.close()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


_HEAD_TOO_LARGE = f"The head of a request may have {MAX_HEAD_BYTES:,} bytes and {MAX_FIELDS} fields at the most."


def _problem(status: HTTPStatus, detail: str) -> bytes:
    body = json.dumps({"status": status, "type": "about:blank", "title": status.phrase, "detail": detail}).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
