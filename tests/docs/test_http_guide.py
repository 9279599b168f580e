"""docs/http.md shows every refusal there is; those that a healthy server does not give are made here."""

import json
import re
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from support.documentation import blocks
from support.server import serving

from atm_adapters.error_catalogue import CATALOGUE
from atm_adapters.http.protocol import BoundedProtocol
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_adapters.stores import UnknownStore
from atm_core import Account, OutcomeUnknown, Overloaded, StoreUnavailable, Transaction
from atm_core.errors import READ_WHETHER_IT_EXISTS

GUIDE = Path(__file__).parents[2] / "docs" / "http.md"
SHOWN = [json.loads(block.text) for block in blocks(GUIDE) if block.language == "json"]

FAILURES = {
    "unavailable": StoreUnavailable("accounts.sqlite3", "it is locked"),
    "overloaded": Overloaded(10_000),
    "unknown": OutcomeUnknown("accounts.sqlite3", "the disk is full"),
    "mistake": ZeroDivisionError(),
}


class Failing(InMemoryAccountRepository):
    """Fails a transaction in the way that its key names, and every opening."""

    def add(self, account: Account, /) -> Account:
        raise OutcomeUnknown("accounts.sqlite3", f"no room for {account.number}", READ_WHETHER_IT_EXISTS)

    def execute(self, transaction: Transaction, /) -> Account:
        raise FAILURES[str(transaction.key)]


def request(path: str, body: str, *fields: str) -> bytes:
    """A request, as it is on the wire."""
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*head, "", body]).encode()


def test_answers_that_a_healthy_server_does_not_give_are_as_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "read_seconds", 0.5)
    deposit, amount = "/accounts/0/deposit", '{"amount": 1}'
    requests = [
        b"nonsense\r\n\r\n",
        request(deposit, amount)[:-1],
        request(deposit, " " * 70_000),
        request(deposit, amount, "X: " + "x" * 70_000),
        *(request(deposit, amount, f"Idempotency-Key: {failure}") for failure in FAILURES),
        request("/accounts", '{"account_number": "43"}'),
    ]
    with serving(Failing()) as address:
        answers = [answer_to(each, address) for each in requests]

    def by_text(problem: dict[str, Any]) -> str:
        return json.dumps(problem, sort_keys=True)

    assert sorted(answers, key=by_text) == sorted(map(as_this_python_names_it, SHOWN), key=by_text)


def answer_to(message: bytes, address: tuple[str, int]) -> dict[str, Any]:
    """The problem document that a message is answered with."""
    with socket.create_connection(address, timeout=30) as client, client.makefile("rb") as answer:
        client.sendall(message)
        head = iter(answer.readline, b"\r\n")
        (length,) = [int(line.split()[1]) for line in head if line.lower().startswith(b"content-length:")]
        text = answer.read(length).decode().replace("within 0.5 seconds", "within 10 seconds")
    problem: dict[str, Any] = json.loads(text)
    return problem


def as_this_python_names_it(problem: dict[str, Any]) -> dict[str, Any]:
    """With the title that belongs to the status: Python 3.13 renamed some."""
    if problem["type"] != "about:blank":
        return problem
    return {**problem, "title": HTTPStatus(problem["status"]).phrase}


def test_every_error_of_the_catalogue_has_an_example_with_its_status() -> None:
    shown = set(re.findall(r'"status": ?(\d+), ?"type": ?"urn:mini-atm:error:([a-z-]+)"', GUIDE.read_text()))
    at_start_only = {UnknownStore}
    assert shown == {
        (str(report.status), error.code) for error, report in CATALOGUE.items() if error not in at_start_only
    }


@pytest.mark.parametrize("module", ["problems", "protocol", "cross_site"])
def test_every_status_that_the_api_names_has_an_example(module: str) -> None:
    source = (Path(__file__).parents[2] / "src/atm_adapters/http" / f"{module}.py").read_text()
    named = {HTTPStatus[name].value for name in re.findall(r"HTTPStatus\.([A-Z_]+)", source)}
    assert {status for status in named if f"**{status}**" not in GUIDE.read_text()} == set()
