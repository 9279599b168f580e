"""Helpers of the tests of ``atm check``: a run in this process, and a server with canned responses."""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import pytest

from atm_adapters.conformance.http_api import run
from atm_adapters.conformance.http_api.checks import CHECKS
from atm_adapters.conformance.http_api.report import as_table, to_json
from atm_adapters.conformance.http_api.run import Outcome, Report, check_api

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
KEY_CHECKS = {
    "A retry with the same key is applied once",
    "Concurrent retries with the same key are applied once",
    "A key cannot be reused for another transaction",
    "Malformed keys are rejected",
}
ACCESS_CHECK = "Requests without a valid access token are rejected"
LIFECYCLE_CHECKS = {
    "Entries are numbered without gaps",
    "An account is opened once",
    "Limits are shown and obeyed",
    "A history has each entry once",
    "Accounts can be closed and reopened",
}


def check(url: str) -> tuple[Report, str]:
    """Check a server, and return the report and all messages."""
    messages: list[str] = []
    report = check_api(url, ("0", "1"), say=messages.append, step=lambda _: None)
    return report, "\n".join(messages)


def select_checks(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Run only the checks with these names."""
    assert set(names) <= {each.name for each in CHECKS}
    monkeypatch.setattr(run, "CHECKS", [each for each in CHECKS if each.name in names])


def with_outcome(report: Report, outcome: Outcome) -> set[str]:
    """Return the names of the checks with an outcome."""
    return {result.name for result in report.checks if result.outcome == outcome}


def failures(report: Report) -> set[str]:
    """Return the names of the failed checks. Each must say what was sent, received and expected."""
    failed = [result for result in report.checks if result.outcome == "failed"]
    assert all(result.sent and result.received and result.expected for result in failed)
    return {result.name for result in failed}


def assert_printable(report: Report) -> None:
    """Require that no byte of the server's responses can control a terminal."""
    assert to_json(report).isascii()
    assert to_json(report).isprintable()
    for line in as_table(report).splitlines():
        assert len(line) <= 80
        assert line.isprintable()


@contextmanager
def canned_server(pieces: Iterable[bytes]) -> Iterator[str]:
    """Send these pieces in response to any request, close the connection, and yield the URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def respond() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(ConnectionError):
                    connection.recv(65536)
                    for piece in pieces:
                        connection.sendall(piece)

    thread = threading.Thread(target=respond)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
