"""A TCP proxy that cuts connections at a chosen message, to simulate network failures."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Moment = Literal["before", "during", "after"]


class Proxy:
    """A relay to a port of the loopback interface."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cut: tuple[bytes, Moment, bool] | None = None
        self._is_down = False
        self._lock = threading.Lock()
        self._open: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """The port to connect to."""
        port: int = self._listener.getsockname()[1]
        return port

    def cut_at(self, message: bytes, moment: Moment, *, and_stay_away: bool = False) -> None:
        """Cut the next connection that sends this message.

        :param moment: ``before`` the message is relayed, ``during`` its processing by the server, or ``after``
            the server has responded, whose response is then dropped.
        :param and_stay_away: whether to cut all other connections too, and to refuse new ones until
            :meth:`come_back`.
        """
        self._cut = (message, moment, and_stay_away)

    def has_cut(self) -> bool:
        """Return whether the requested cut was made."""
        return self._cut is None

    def come_back(self) -> None:
        """Accept connections again."""
        self._is_down = False

    def close(self) -> None:
        """Close the listener and all connections."""
        _shut_down(self._listener)
        self._listener.close()
        for pair in self._open:
            _shut_down(*pair)
            for end in pair:
                end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_down:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open.append((client, server))
                drop = threading.Event()  # drop the next response, then cut
                threading.Thread(target=self._relay_requests, args=(client, server, drop), daemon=True).start()
                threading.Thread(target=self._relay_responses, args=(client, server, drop), daemon=True).start()

    def _relay_requests(self, client: socket.socket, server: socket.socket, drop: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                moment = self._moment_to_cut(data, client)
                if moment == "before":
                    break
                if moment == "after":
                    drop.set()  # _relay_responses() cuts when the response arrives
                server.sendall(data)
                if moment == "during":
                    break
        _shut_down(client, server)

    def _relay_responses(self, client: socket.socket, server: socket.socket, drop: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if drop.is_set():
                    break
                client.sendall(data)
        _shut_down(client, server)

    def _moment_to_cut(self, data: bytes, client: socket.socket) -> Moment | None:
        with self._lock:
            if self._cut is None or self._cut[0] not in data:
                return None
            _, moment, self._is_down = self._cut
            self._cut = None
        if self._is_down:
            for other, server in self._open:
                if other is not client:
                    _shut_down(other, server)
        return moment


def _shut_down(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(target: int) -> Iterator[Proxy]:
    """Run a proxy to a port of the loopback interface."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
