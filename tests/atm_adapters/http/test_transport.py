"""Answers leave in one piece: the protocol that serves them, on a transport that notes what it is given to send."""

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from atm_adapters.group_commit import Immediate
from atm_adapters.http.app import create_app
from atm_adapters.http.protocol import BoundedProtocol
from atm_adapters.http.transport import JoiningTransport
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account

REQUEST = b"GET /accounts/0/balance HTTP/1.1\r\nHost: localhost\r\n"


class Noting(asyncio.Transport):
    """Keeps what it is given to send."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.sent: list[bytes] = []
        self.has_sent = asyncio.Event()
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent.append(bytes(data))
        self.has_sent.set()

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def answer_to(request: bytes) -> Noting:
    """Hand a request to a connection's protocol, and give its transport once something was sent."""
    app = create_app(Immediate(InMemoryAccountRepository([Account("0", 1000)])))
    config = uvicorn.Config(app, http=BoundedProtocol, lifespan="off", log_config=None)
    config.load()
    protocol = BoundedProtocol(config=config, server_state=ServerState(), app_state={})
    transport = Noting()
    protocol.connection_made(transport)
    protocol.data_received(request)
    async with asyncio.timeout(10):
        await transport.has_sent.wait()
    return transport


@pytest.mark.parametrize("last_field", [b"", b"Connection: close\r\n"])
def test_the_head_and_the_body_of_an_answer_are_sent_together(last_field: bytes) -> None:
    transport = asyncio.run(answer_to(REQUEST + last_field + b"\r\n"))
    (sent,) = transport.sent
    assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert sent.endswith(b'"balance":1000.00}')


def test_what_is_written_later_is_sent_without_waiting_for_more() -> None:
    async def write_twice() -> list[bytes]:
        noting = Noting()
        transport = JoiningTransport(noting, asyncio.get_running_loop())
        transport.write(b"a")
        await asyncio.sleep(0)
        transport.write(b"b")
        await asyncio.sleep(0)
        return noting.sent

    assert asyncio.run(write_twice()) == [b"a", b"b"]


def test_nothing_is_sent_on_a_connection_that_was_lost_meanwhile() -> None:
    async def write_and_lose() -> list[bytes]:
        noting = Noting()
        transport = JoiningTransport(noting, asyncio.get_running_loop())
        transport.write(b"a")
        noting.closed = True
        await asyncio.sleep(0)
        return noting.sent

    assert asyncio.run(write_and_lose()) == []


def test_whatever_else_is_asked_of_it_the_transport_beneath_does() -> None:
    async def ask() -> object:
        return JoiningTransport(Noting(), asyncio.get_running_loop()).get_extra_info("peername")

    assert asyncio.run(ask()) == ("127.0.0.1", 1)
