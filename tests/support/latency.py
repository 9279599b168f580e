"""The latency that a client sees. A module of its own, so that another process can import it."""

import socket
import time
from contextlib import suppress

REQUEST = b"GET /accounts/1/balance HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def latencies_of_new_connections(address: tuple[str, int], seconds: float) -> list[float]:
    """Return the seconds of requests on new connections, made one after the other for so long."""
    latencies = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        with socket.create_connection(address, timeout=60) as client, suppress(ConnectionError):
            client.sendall(REQUEST)
            answer = b""
            while data := client.recv(65536):
                answer += data
        assert answer.startswith(b"HTTP/1.1 200 OK"), answer
        latencies.append(time.monotonic() - began)
    return latencies
