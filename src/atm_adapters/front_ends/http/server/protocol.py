"""Limits on the size and the duration of a request, checked before there is a request.

With httptools, uvicorn has none: an idle or half-sent request keeps its connection for ever, and a head may
have any size. This subclass depends on undocumented calls between uvicorn's class and httptools. The tests
check every case over a socket.
"""

import asyncio
from http import HTTPStatus
from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from atm_adapters.front_ends.http.server.transport import CoalescingTransport
from atm_adapters.wire.exact_json import encode
from atm_adapters.wire.problem_document import PROBLEM_JSON, http_problem_document

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 100


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline for each request to arrive, and a bound on its head.

    A refusal is answered with a problem document, and the connection is closed.
    """

    read_seconds: ClassVar[float] = 10.0  # within which a request must arrive
    _deadline: asyncio.TimerHandle | None = None
    _is_arriving = False  # the first byte of a request has arrived, the last one has not
    _in_head = True
    _head_bytes = 0  # of an incomplete head
    _refusal = (HTTPStatus.BAD_REQUEST, "This is not a well-formed HTTP/1.1 request.")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Wrap the transport, and start the deadline of the first request."""
        super().connection_made(cast("asyncio.Transport", CoalescingTransport(transport, self.loop)))
        self._deadline = self.loop.call_later(self.read_seconds, self._on_deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the deadline."""
        self._end_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data, and start the deadline if a request is incomplete."""
        self._is_arriving = True
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEAD_TOO_LARGE)
        elif self._is_arriving and self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.read_seconds, self._on_deadline)

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self._is_arriving = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Continue unless the head is too large."""
        self._in_head = False
        self._head_bytes = 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_FIELDS:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEAD_TOO_LARGE
            raise ValueError(_HEAD_TOO_LARGE)  # makes httptools stop and uvicorn call send_400_response()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        self._is_arriving = False
        self._in_head = True
        self._end_deadline()
        super().on_message_complete()

    def send_400_response(self, _msg: str) -> None:
        """Refuse bytes that httptools could not parse."""
        self._refuse(*self._refusal)

    def _on_deadline(self) -> None:
        self._deadline = None
        if self._is_arriving:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The request did not arrive within {self.read_seconds:g} seconds. Try again.",
            )
        else:  # idle connection: close without a response
            self.transport.close()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        self._end_deadline()
        if self.transport.is_closing():
            return
        # An earlier request on this connection may be in the middle of its answer.
        is_answering = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if not is_answering:
            self.transport.write(_problem(status, detail))
        self.transport.close()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


_HEAD_TOO_LARGE = f"The head of a request may have at most {MAX_HEAD_BYTES:,} bytes and {MAX_FIELDS} fields."


def _problem(status: HTTPStatus, detail: str) -> bytes:
    body = encode(http_problem_document(status, detail))
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {PROBLEM_JSON}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
