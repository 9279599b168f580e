"""A TCP proxy that cuts connections at a chosen message: how a network fails at the worst moment."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Moment = Literal["before", "during", "after"]


class Proxy:
    """Relays connections on the loopback interface to a port of it, until told to cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cut: tuple[bytes, Moment, bool] | None = None
        self._is_away = False
        self._lock = threading.Lock()
        self._open: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where to connect."""
        port: int = self._listener.getsockname()[1]
        return port

    def cut_at(self, message: bytes, moment: Moment, *, and_stay_away: bool = False) -> None:
        """Cut the next connection that sends this message.

        ``before``: the message never arrives. ``during``: it arrives, and nobody waits for the answer.
        ``after``: it is answered, and the answer never arrives. Who stays away drops all other
        connections too, and accepts none until told to come back.
        """
        self._cut = (message, moment, and_stay_away)

    def has_cut(self) -> bool:
        """Whether the cut that was asked for has been made."""
        return self._cut is None

    def come_back(self) -> None:
        """Accept connections again."""
        self._is_away = False

    def close(self) -> None:
        """Stop."""
        _hang_up(self._listener)
        self._listener.close()
        for pair in self._open:
            _hang_up(*pair)
            for end in pair:
                end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_away:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open.append((client, server))
                awaited = threading.Event()  # set while an answer is to be swallowed
                threading.Thread(target=self._relay_requests, args=(client, server, awaited), daemon=True).start()
                threading.Thread(target=self._relay_answers, args=(client, server, awaited), daemon=True).start()

    def _relay_requests(self, client: socket.socket, server: socket.socket, awaited: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                moment = self._moment_to_cut(data, client)
                if moment == "before":
                    break
                if moment == "after":
                    awaited.set()  # the other direction cuts, once the answer is there
                server.sendall(data)
                if moment == "during":
                    break
        _hang_up(client, server)

    def _relay_answers(self, client: socket.socket, server: socket.socket, awaited: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if awaited.is_set():
                    break
                client.sendall(data)
        _hang_up(client, server)

    def _moment_to_cut(self, data: bytes, client: socket.socket) -> Moment | None:
        with self._lock:
            if self._cut is None or self._cut[0] not in data:
                return None
            _, moment, self._is_away = self._cut
            self._cut = None
        if self._is_away:
            for other, server in self._open:
                if other is not client:
                    _hang_up(other, server)
        return moment


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(target: int) -> Iterator[Proxy]:
    """Run a proxy to a port."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
