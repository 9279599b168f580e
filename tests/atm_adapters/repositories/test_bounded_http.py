"""Answers of a server that wants the memory or the time of its client, over real connections."""

import gzip
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from time import monotonic

import httpx
import pytest
from support.http_api_check import JSON_HEAD, canned_server

from atm_adapters.repositories.bounded_http import MAX_ANSWER_BYTES, BoundedClient
from atm_adapters.repositories.remote import RemoteAccountRepository
from atm_core import OutcomeUnknown, StoreUnavailable, deposit, get_account

ACCOUNT = b'{"account_number": "0", "balance": 1000.00}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

DRIPPING = {
    "status line": (b"", b"H"),
    "header": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: x\r\n"),
    "informational answers": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "body": (JSON_HEAD, b" "),
    "body of known length": (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
    "chunk size": (CHUNKED + b"1;", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X: x\r\n"),
}


def dripping(head: bytes, piece: bytes) -> Iterator[bytes]:
    """Yield a piece every 20 ms for 8 seconds, so that no single read takes long."""
    yield head
    for _ in range(400):
        threading.Event().wait(0.02)
        yield piece


@pytest.mark.parametrize(("head", "piece"), DRIPPING.values(), ids=DRIPPING)
def test_one_deadline_holds_for_the_whole_answer(head: bytes, piece: bytes) -> None:
    with (
        canned_server(dripping(head, piece)) as url,
        closing(RemoteAccountRepository(url, retry_timeout=0, timeout=0.5)) as accounts,
    ):
        begun = monotonic()
        with pytest.raises(StoreUnavailable, match="it gave no answer"):
            get_account(accounts, "0")
        assert 0.4 < monotonic() - begun < 4


def test_deadline_is_that_of_each_exchange() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ACCOUNT), ACCOUNT)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_twice() -> None:
            connection, _ = listener.accept()
            with connection:
                for _ in range(2):
                    connection.recv(65536)
                    threading.Event().wait(0.3)
                    connection.sendall(answer)

        thread = threading.Thread(target=answer_twice)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with closing(RemoteAccountRepository(url, retry_timeout=0, timeout=0.5)) as accounts:
            assert get_account(accounts, "0").balance == get_account(accounts, "0").balance == 1000
        thread.join()


def test_silent_tls_handshake_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with (
            closing(BoundedClient(base_url=url, timeout=0.3, headers={}, verify=ssl.create_default_context())) as http,
            pytest.raises(httpx.ConnectTimeout),
        ):
            http.exchange("GET", "/")


def endless(head: bytes) -> Iterator[bytes]:
    """Yield a head and 64 MiB of blanks."""
    yield head
    for _ in range(64):
        yield b" " * 1024 * 1024


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        (endless(JSON_HEAD), "its answer has more than 65,536 bytes"),
        (endless(b"HTTP/1.1 503 Gone\r\n\r\n"), "its answer has more than 65,536 bytes"),
        (endless(CHUNKED + b"4000000\r\n"), "its answer has more than 65,536 bytes"),
        (
            [JSON_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"), gzip.compress(bytes(64 << 20))],
            "its answer is compressed, which was not requested",
        ),
        ([JSON_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: identity, br\r\n\r\n"), ACCOUNT], "is compressed"),
    ],
    ids=["endless", "endless error", "endless chunk", "gzip bomb", "two encodings"],
)
def test_memory_for_an_answer_is_bounded(pieces: list[bytes], reason: str) -> None:
    with canned_server(pieces) as url, closing(RemoteAccountRepository(url, retry_timeout=0)) as accounts:
        tracemalloc.start()
        try:
            with pytest.raises(StoreUnavailable, match=reason):
                get_account(accounts, "0")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8_000_000  # the server's own pieces are 1 MiB


def test_unusable_answer_to_a_deposit_is_an_unknown_outcome() -> None:
    pieces = [JSON_HEAD, ACCOUNT, b" " * MAX_ANSWER_BYTES]
    with (
        canned_server(pieces) as url,
        closing(RemoteAccountRepository(url, retry_timeout=0)) as accounts,
        pytest.raises(OutcomeUnknown),
    ):
        deposit(accounts, "0", 1)


@pytest.mark.parametrize("size", [MAX_ANSWER_BYTES, MAX_ANSWER_BYTES + 1])
def test_answer_is_read_up_to_the_limit(size: int) -> None:
    with (
        canned_server([JSON_HEAD, ACCOUNT.ljust(size)]) as url,
        closing(RemoteAccountRepository(url, retry_timeout=0)) as accounts,
    ):
        if size > MAX_ANSWER_BYTES:
            with pytest.raises(StoreUnavailable, match="more than 65,536 bytes"):
                get_account(accounts, "0")
        else:
            assert get_account(accounts, "0").balance == 1000


def test_compression_is_not_requested_and_cookies_are_not_kept() -> None:
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    requests.append(connection.recv(65536))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nConnection: close\r\n\r\n" + ACCOUNT)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with closing(RemoteAccountRepository(url)) as accounts:
            get_account(accounts, "0")
            get_account(accounts, "0")
        thread.join()
    assert [b"accept-encoding: identity\r\n" in request.lower() for request in requests] == [True, True]
    assert not any(b"cookie" in request.lower() for request in requests)
