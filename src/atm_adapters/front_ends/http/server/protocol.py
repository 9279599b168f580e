"""uvicorn's HTTP protocol with bounds on everything that a client can send or leave unread.

This is the only module that depends on uvicorn's internals. With httptools, uvicorn (checked with 0.54) has no
limit on the size of a head or of trailers, no deadline for a request or for a client that does not read, and queues
every pipelined request. It also parses the body of a request with ``Upgrade`` as the next request, which smuggles
requests past proxies. uvicorn offers no hook for any of this, so a subclass overrides the methods that uvicorn and
httptools call. ``tests/.../server/test_uvicorn_internals.py`` fails when uvicorn changes them.

One connection is served like this: bytes wait in ``_unparsed``, and the parser gets them in small pieces until a
request is complete. The next request waits there until the present one is answered. A refusal also waits for the
answers of earlier requests, so it never overtakes one.
"""

import asyncio
import socket
import struct
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast
from weakref import WeakKeyDictionary

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from atm_adapters.front_ends.http.boundary import SECURITY_HEADERS
from atm_adapters.front_ends.http.server.transport import CoalescingTransport
from atm_adapters.wire.exact_json import encode
from atm_adapters.wire.problem_document import PROBLEM_JSON, http_problem_document

MAX_CONNECTIONS: Final = 1_000
MAX_HEAD_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 100
MAX_MESSAGE_BYTES: Final = 256 * 1024
"""All bytes of one request: head, body, chunk sizes and extensions, and trailers."""

MAX_DISCARDED_BYTES: Final = 8 * 1024 * 1024
"""The same for a request that was answered before it was complete. Its bytes are not kept."""

_PIECE: Final = 512  # bytes, for the parser; at most 28 requests fit
_WRITE_BUFFER: Final = 16 * 1024
_LINGER_SECONDS: Final = 1.0
_DISCARD_PAUSE: Final = 0.002  # seconds, for each connection that was refused and may still send

_HEAD_TOO_LARGE = f"The head of a request may have at most {MAX_HEAD_BYTES:,} bytes and {MAX_FIELDS} fields."
_MESSAGE_TOO_LARGE = f"A request may have at most {MAX_MESSAGE_BYTES:,} bytes."
_MALFORMED = (HTTPStatus.BAD_REQUEST, "This is not a well-formed HTTP/1.1 request.")
_BUSY = (HTTPStatus.SERVICE_UNAVAILABLE, "The server has too many connections. Try again shortly.")

# Per server, the connections that have no complete request, the one that waits longest first.
_waiting: "WeakKeyDictionary[ServerState, dict[LimitedHttpProtocol, None]]" = WeakKeyDictionary()

# Per server, the connections that were refused and may still send.
_lingering: "WeakKeyDictionary[ServerState, set[LimitedHttpProtocol]]" = WeakKeyDictionary()


class _Flow(FlowControl):
    """Does not resume reading while bytes wait for the parser. uvicorn resumes it with every request."""

    def __init__(self, transport: asyncio.Transport, unparsed: bytearray) -> None:
        super().__init__(transport)
        self._unparsed = unparsed

    def resume_reading(self) -> None:
        if not self._unparsed:
            super().resume_reading()


class LimitedHttpProtocol(HttpToolsProtocol):
    """One connection. A refusal is answered with a problem document, and the connection is closed."""

    read_seconds: ClassVar[float] = 10.0  # within which a request must arrive, and a new connection must begin one
    write_seconds: ClassVar[float] = 10.0  # within which a client must read a part of its answer
    max_connections: ClassVar[int] = MAX_CONNECTIONS  # of one server process

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unparsed = bytearray()
        self._is_arriving = False  # the first byte of a request was parsed, the last one was not
        self._in_head = True
        self._message_bytes = 0  # of the request that arrives
        self._replays_head = False  # of a request with Upgrade, for a second parser
        self._refusal: tuple[HTTPStatus, str] | None = None
        self._is_refused = False
        self._discarded = 0
        self._deadline: float | None = None  # for the next request, or for the rest of the one that arrives
        self._timer: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._waiting = _waiting.setdefault(self.server_state, {})
        self._lingering = _lingering.setdefault(self.server_state, set())

    # What the event loop calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Accept the connection, if need be in place of the one that has waited longest for its client."""
        super().connection_made(cast("asyncio.Transport", CoalescingTransport(transport, self.loop)))
        self.flow = _Flow(self.transport, self._unparsed)
        self.transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        if len(self.connections) > 2 * self.max_connections:
            self.transport.abort()
            return
        if len(self.connections) > self.max_connections:
            longest = next(iter(self._waiting), None)
            if longest is None:
                self._refuse(*_BUSY)
                return
            longest.transport.close()
            del self._waiting[longest]
        self._waiting[self] = None
        self._set_deadline(self.read_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything that the connection holds."""
        if self._timer is not None:
            self._timer.cancel()
        self._stop_write_deadline()
        self._waiting.pop(self, None)
        self._lingering.discard(self)
        super().connection_lost(exc)
        self._unparsed.clear()
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Parse the data, or keep it until the present request is answered."""
        if self._refusal is not None:
            self._discard(data)
            return
        if self._unparsed or len(data) > _PIECE or self._is_blocked():
            self._unparsed += data
        else:
            self._feed(data)
            if not (self._is_arriving or self._unparsed or self.flow.read_paused):
                return  # the usual case: one complete request
        self._parse()

    def pause_writing(self) -> None:
        """Give a client that does not read a deadline."""
        super().pause_writing()
        self._write_deadline = self.loop.call_later(
            self.write_seconds, self._on_write_deadline, self.transport.get_write_buffer_size()
        )

    def resume_writing(self) -> None:
        """Stop the deadline."""
        self._stop_write_deadline()
        super().resume_writing()

    # What the parser calls

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        if self._replays_head:
            return
        self._is_arriving = True
        self._in_head = True
        if self.cycle is not None:  # otherwise the deadline for the first request goes on
            self._deadline = None
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to handle the request, unless its head is too large."""
        if self._replays_head:
            self._replays_head = False
            return
        # The bytes that arrived are a good estimate. Computing the exact size takes up to 1 % of a request.
        is_small = self._message_bytes < MAX_HEAD_BYTES // 2
        if len(self.headers) > MAX_FIELDS or not (is_small or self._head_bytes() <= MAX_HEAD_BYTES):
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEAD_TOO_LARGE)
            raise ValueError(_HEAD_TOO_LARGE)  # stops the parser
        super().on_headers_complete()
        self.headers = []  # for trailers (RFC 9110, section 6.5), which are ignored
        self._in_head = False

    def on_message_complete(self) -> None:
        """Note that the request is complete, unless its body follows an ignored Upgrade."""
        if self.parser.should_upgrade():
            return
        self._is_arriving = False
        self._in_head = True
        self._message_bytes = 0
        self._deadline = None
        self._waiting.pop(self, None)
        if self.cycle.response_complete:  # answered before its body was complete
            self._wait_for_next_request()
        else:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    # What uvicorn calls

    def on_response_complete(self) -> None:
        """Continue with the next request. uvicorn's own method starts a timer for each answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._wait_for_next_request()
        if self._unparsed or self._is_arriving or self._refusal is not None:
            self.loop.call_soon(self._parse)

    def send_400_response(self, _msg: str) -> None:
        """Refuse bytes that are not HTTP. uvicorn calls this where it cannot parse a request."""
        self._refuse(*_MALFORMED)

    # The rest is our own

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _parse(self) -> None:
        """Feed the parser until a request is complete. Then wait for its answer."""
        while self._unparsed and self._refusal is None and not self._is_blocked():
            piece = bytes(self._unparsed[:_PIECE])
            del self._unparsed[:_PIECE]
            self._feed(piece)
        self._wait()

    def _wait(self) -> None:
        """Wait for more data, with a deadline, or for the answer of an earlier request, without one."""
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self._refusal is not None:
            self._answer_refusal()
        elif self._is_arriving and not self._is_blocked():
            if self._deadline is None:
                self._set_deadline(self.read_seconds)
        elif self._unparsed:
            self.flow.pause_reading()

    def _wait_for_next_request(self) -> None:
        self._waiting[self] = None
        if not self._is_arriving:
            self._set_deadline(self.timeout_keep_alive)

    def _feed(self, piece: bytes) -> None:
        self._message_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(piece[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._refusal is None:
                self._refuse(*_MALFORMED)
        if not self._is_arriving:
            self._message_bytes = 0
        elif self._in_head and self._message_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEAD_TOO_LARGE)
        elif self._message_bytes > (MAX_DISCARDED_BYTES if self._is_answered() else MAX_MESSAGE_BYTES):
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _MESSAGE_TOO_LARGE)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Continue as if the request had no Upgrade (RFC 9110, section 7.8).

        httptools has skipped the body. A second parser gets the head again, without Upgrade, and then the rest.
        """
        head = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        head += [b"%b: %b" % field for field in self.scope["headers"] if field[0] != b"upgrade"]
        if self.parser.get_method() == b"CONNECT":  # which llhttp takes for an upgrade in any case
            self._refuse(*_MALFORMED)
            return
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._replays_head = True
        self._feed(b"\r\n".join([*head, b"", b""]))
        self._unparsed[:0] = rest

    def _is_answered(self) -> bool:
        """Return whether the request that arrives has its answer already, so that the rest of it is discarded."""
        return not self._in_head and self.cycle is not None and self.cycle.response_complete

    def _is_blocked(self) -> bool:
        """Return whether an earlier request than the one that arrives has no answer yet."""
        if self.pipeline:
            return True
        has_own_cycle = self._is_arriving and not self._in_head
        return not has_own_cycle and self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Refuse the request that arrives, once earlier ones are answered. Nothing that follows is parsed."""
        if self._refusal is None:
            self._refusal = status, detail
            self._unparsed.clear()
            self._deadline = None
            self.loop.call_soon(self._answer_refusal)

    def _answer_refusal(self) -> None:
        if self._refusal is None or self._is_refused or self._is_blocked() or self.transport.is_closing():
            return
        is_own = self._is_arriving and not self._in_head and self.cycle is not None
        if is_own and self.cycle.response_started and not self.cycle.response_complete:
            return  # on_response_complete() comes back here
        self._is_refused = True
        if not (is_own and self.cycle.response_complete):
            self.transport.write(_answer(*self._refusal))
        if is_own:
            self.cycle.disconnected = True  # its handler gets http.disconnect instead of the rest of the body
            self.cycle.message_event.set()
        # Closing now would reset the connection if the client still sends, and the client might lose the answer.
        cast("CoalescingTransport", self.transport).write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        self._lingering.add(self)

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > MAX_DISCARDED_BYTES:
            if self._is_refused:
                self.transport.close()
            else:
                self.flow.pause_reading()
        elif self._is_refused:
            # Otherwise the event loop reads up to 8 MiB of each such connection in one turn, and delays all others.
            self.flow.pause_reading()
            self.loop.call_later(_DISCARD_PAUSE * len(self._lingering), self.flow.resume_reading)

    def _set_deadline(self, seconds: float) -> None:
        """Set the deadline. A timer that ends earlier is kept, because a timer for each request costs 1 % of it."""
        self._deadline = self.loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        rest = self._deadline - self.loop.time()
        if rest > 0:
            self._timer = self.loop.call_later(rest, self._on_timer)
            return
        self._deadline = None
        if self._is_arriving:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The request did not arrive within {self.read_seconds:g} seconds. Try again.",
            )
        else:  # idle connection: close without a response
            self.transport.close()

    def _on_write_deadline(self, unread_before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread >= unread_before:
            # With a linger of 0 the kernel resets the connection. Otherwise it would keep its part of the answer.
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self._write_deadline = self.loop.call_later(self.write_seconds, self._on_write_deadline, unread)

    def _stop_write_deadline(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None


def _answer(status: HTTPStatus, detail: str) -> bytes:
    body = encode(http_problem_document(status, detail))
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {PROBLEM_JSON}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n"
    )
    return b"".join([head.encode(), *(b"%b: %b\r\n" % field for field in SECURITY_HEADERS), b"\r\n", body])
