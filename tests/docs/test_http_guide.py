"""docs/http.md shows every refusal. Those that a healthy server never sends are produced here."""

import json
import re
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from support.documentation import blocks
from support.server import serving

from atm_adapters.front_ends.http.server.protocol import LimitedHttpProtocol
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_adapters.wire.error_responses import ERROR_RESPONSES
from atm_adapters.wire.errors import InvalidTokensFile, UnknownStore
from atm_core import (
    Account,
    AtmError,
    InconsistentJournal,
    OutcomeUnknown,
    Overloaded,
    StoreNotEmpty,
    StoreNotInitialized,
    StoreUnavailable,
    Transaction,
)

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "http.md"
SHOWN = [json.loads(block.text) for block in blocks(GUIDE) if block.language == "json"]

FAILURES = {
    "unavailable": StoreUnavailable("accounts.sqlite3", "it is locked"),
    "overloaded": Overloaded(10_000),
    "unknown": OutcomeUnknown("accounts.sqlite3", "the disk is full"),
    "mistake": ZeroDivisionError(),
}


class Failing(InMemoryAccountRepository):
    """Fails every transaction in the way that its key names."""

    def execute(self, transaction: Transaction, /) -> Account:
        raise FAILURES[str(transaction.key)]


def request(path: str, body: str, *fields: str) -> bytes:
    """Return the bytes of a request."""
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*head, "", body]).encode()


def test_answers_of_failing_server_are_as_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedHttpProtocol, "read_seconds", 0.5)
    deposit, amount = "/accounts/0/deposit", '{"amount": 1}'
    requests = [
        b"nonsense\r\n\r\n",
        request(deposit, amount)[:-1],
        request(deposit, " " * 70_000),
        request(deposit, amount, "X: " + "x" * 70_000),
        *(request(deposit, amount, f"Idempotency-Key: {failure}") for failure in FAILURES),
    ]
    with serving(Failing()) as address:
        answers = [answer_to(each, address) for each in requests]

    def by_text(problem: dict[str, Any]) -> str:
        return json.dumps(problem, sort_keys=True)

    assert sorted(answers, key=by_text) == sorted(map(with_titles_of_this_python, SHOWN), key=by_text)


def answer_to(message: bytes, address: tuple[str, int]) -> dict[str, Any]:
    """Return the problem document that answers a message."""
    with socket.create_connection(address, timeout=30) as client, client.makefile("rb") as answer:
        client.sendall(message)
        head = iter(answer.readline, b"\r\n")
        (length,) = [int(line.split()[1]) for line in head if line.lower().startswith(b"content-length:")]
        text = answer.read(length).decode().replace("within 0.5 seconds", "within 10 seconds")
    problem: dict[str, Any] = json.loads(text)
    return problem


def with_titles_of_this_python(problem: dict[str, Any]) -> dict[str, Any]:
    """Return the problem with the standard title of its status. Python 3.13 changed some titles."""
    if problem["type"] != "about:blank":
        return problem
    return {**problem, "title": HTTPStatus(problem["status"]).phrase}


def test_every_error_has_an_example_with_its_status() -> None:
    shown = set(re.findall(r'"type": ?"urn:mini-atm:error:([a-z-]+)".*?"status": ?(\d+)', GUIDE.read_text()))
    # A server imports no journals, and does not say what is wrong with its store or its tokens file. AtmError is the
    # row of refusals without a row of their own.
    not_answered = {InvalidTokensFile, UnknownStore, InconsistentJournal, StoreNotEmpty, StoreNotInitialized, AtmError}
    assert shown == {
        (error.code, str(response.status)) for error, response in ERROR_RESPONSES.items() if error not in not_answered
    }


@pytest.mark.parametrize(
    "module", ["front_ends/http/problems", "front_ends/http/server/protocol", "front_ends/http/cross_site"]
)
def test_every_status_has_a_section(module: str) -> None:
    source = (ROOT / "src/atm_adapters" / f"{module}.py").read_text()
    named = {HTTPStatus[name].value for name in re.findall(r"HTTPStatus\.([A-Z_]+)", source)}
    assert named
    assert {status for status in named if f"\n### {status} " not in GUIDE.read_text()} == set()
