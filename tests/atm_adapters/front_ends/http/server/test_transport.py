"""Responses are sent in one write. The tests run the protocol on a transport that records the data."""

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from atm_adapters.front_ends.http.app import create_app
from atm_adapters.front_ends.http.server.protocol import LimitedHttpProtocol
from atm_adapters.front_ends.http.server.transport import CoalescingTransport
from atm_adapters.repositories.bridges import InlineBridge
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account

REQUEST = b"GET /accounts/0/balance HTTP/1.1\r\nHost: localhost\r\n"


class RecordingTransport(asyncio.Transport):
    """Records the data to send."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.sent: list[bytes] = []
        self.has_sent = asyncio.Event()
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent.append(bytes(data))
        self.has_sent.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def answer_to(request: bytes) -> RecordingTransport:
    """Pass a request to the protocol, and return the transport after the protocol has sent something."""
    app = create_app(InlineBridge(InMemoryAccountRepository([Account("0", 1000)])))
    config = uvicorn.Config(app, http=LimitedHttpProtocol, lifespan="off", log_config=None)
    config.load()
    protocol = LimitedHttpProtocol(config=config, server_state=ServerState(), app_state={})
    transport = RecordingTransport()
    protocol.connection_made(transport)
    protocol.data_received(request)
    async with asyncio.timeout(10):
        await transport.has_sent.wait()
    return transport


@pytest.mark.parametrize("last_field", [b"", b"Connection: close\r\n"])
def test_head_and_body_of_a_response_are_sent_together(last_field: bytes) -> None:
    transport = asyncio.run(answer_to(REQUEST + last_field + b"\r\n"))
    (sent,) = transport.sent
    assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert sent.endswith(b'"balance":1000.00}')


def test_later_write_is_sent_without_waiting_for_more() -> None:
    async def write_twice() -> list[bytes]:
        recorder = RecordingTransport()
        transport = CoalescingTransport(recorder, asyncio.get_running_loop())
        transport.write(b"a")
        await asyncio.sleep(0)
        transport.write(b"b")
        await asyncio.sleep(0)
        return recorder.sent

    assert asyncio.run(write_twice()) == [b"a", b"b"]


def test_nothing_is_sent_on_a_closed_connection() -> None:
    async def write_and_close() -> list[bytes]:
        recorder = RecordingTransport()
        transport = CoalescingTransport(recorder, asyncio.get_running_loop())
        transport.write(b"a")
        recorder.closed = True
        await asyncio.sleep(0)
        return recorder.sent

    assert asyncio.run(write_and_close()) == []


def test_other_calls_are_delegated_to_the_wrapped_transport() -> None:
    async def peer_name() -> object:
        return CoalescingTransport(RecordingTransport(), asyncio.get_running_loop()).get_extra_info("peername")

    assert asyncio.run(peer_name()) == ("127.0.0.1", 1)
