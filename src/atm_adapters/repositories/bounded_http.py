"""An HTTP client for servers that may misbehave: answers are bounded in bytes and in time.

httpx limits the time of each read, so a server that sends a byte now and then can keep its client waiting for
ever. It also decompresses: 5 MB of gzip can become 2.4 GB. Here all reads of one exchange share one deadline,
and a compressed answer is refused.
"""

import threading
from collections.abc import Iterable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ssl import SSLContext
from time import monotonic
from typing import Any, Final

import httpcore
import httpx

MAX_ANSWER_BYTES: Final = 64 * 1024

_NO_COOKIES: Final = DefaultCookiePolicy(allowed_domains=[])  # a server could fill the memory with them


class UnusableAnswer(Exception):
    """An answer is too long or compressed. The message says which."""


class BoundedClient(httpx.Client):
    """An ``httpx.Client`` with the method :meth:`exchange`.

    :param timeout: seconds for one exchange, from connecting to the last byte of the answer.
    :param headers: of each request.
    :param options: those of ``httpx.Client``.
    """

    def __init__(self, *, timeout: float, headers: Mapping[str, str], **options: Any) -> None:
        headers = {"Accept-Encoding": "identity", **headers}
        super().__init__(timeout=timeout, headers=headers, cookies=CookieJar(_NO_COOKIES), **options)
        self._seconds = timeout
        self._deadline = _Deadline()
        for transport in (self._transport, *self._mounts.values()):
            if isinstance(transport, httpx.HTTPTransport):  # which has no public parameter for the network
                pool = transport._pool
                pool._network_backend = _Network(pool._network_backend, self._deadline)

    def exchange(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, str | None] | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> httpx.Response:
        """Send a request, and return the complete answer with its status and content, but without its headers.

        :param max_bytes: the largest number of bytes that the content may have.
        :raises UnusableAnswer: if the answer is longer or compressed.
        :raises httpx.RequestError: if there is no complete answer within the timeout.
        :raises RuntimeError: if this client was closed.
        """
        self._deadline.at = monotonic() + self._seconds
        content = bytearray()
        with self.stream(method, path, json=json, headers=headers) as answer:
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise UnusableAnswer("its answer is compressed, which was not requested")
            for chunk in answer.iter_raw():
                content += chunk
                if len(content) > max_bytes:
                    raise UnusableAnswer(f"its answer has more than {max_bytes:,} bytes")
        return httpx.Response(answer.status_code, content=bytes(content))


class _Deadline(threading.local):
    """The monotonic time at which the exchange of the current thread must be complete."""

    at = 0.0

    def limit(self, timeout: float | None) -> float:
        """Return the timeout, or the time that is left if that is less."""
        left = self.at - monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("timed out")
        return left if timeout is None else min(timeout, left)


class _Network(httpcore.NetworkBackend):
    """Opens connections whose reads observe the deadline."""

    def __init__(self, network: httpcore.NetworkBackend, deadline: _Deadline) -> None:
        self._network = network
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._network.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._deadline)


class _Stream(httpcore.NetworkStream):
    """A connection whose reads observe the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.limit(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
