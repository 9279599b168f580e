"""A client rebuilds every error from its problem document, and no body makes the decoder fail."""

import json
from decimal import Decimal
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.errors import EXAMPLES, project_errors

from atm_adapters.wire.error_responses import response_for
from atm_adapters.wire.errors import UnknownRefusal
from atm_adapters.wire.exact_json import encode
from atm_adapters.wire.problem_document import decode_problem, http_problem_document, problem_document
from atm_core import (
    AccountNotFound,
    AtmError,
    BalanceOutOfRange,
    InvalidAmount,
    OutcomeUnknown,
    StoreNotInitialized,
    StoreUnavailable,
)

RESERVED = {"type", "title", "status", "detail", "instance", "errors"}
UNKNOWN = b"urn:mini-atm:error:test-of-a-later-release"
NESTED = b"[" * 100_000

every_error = pytest.mark.parametrize(
    "error", [error for error in EXAMPLES if not isinstance(error, StoreNotInitialized)], ids=lambda error: error.code
)


def facts(error: AtmError) -> dict[str, object]:
    """Return the facts of an error without rejected input, which may be anything."""
    hints = get_type_hints(type(error))
    return {name: value for name, value in vars(error).items() if hints[name] is not object}


def seen_by_clients(error: AtmError) -> type[AtmError]:
    """Return the class of an error on the wire. That a store must be initialized is for the operator only."""
    return StoreUnavailable if isinstance(error, StoreUnavailable) else type(error)


def sent_and_received(error: AtmError) -> AtmError:
    received = decode_problem(encode(problem_document(error)))
    assert received is not None
    return received


def test_examples_cover_every_error() -> None:
    assert {type(error) for error in EXAMPLES} == project_errors()


def test_every_error_class_has_its_own_code() -> None:
    codes = {error_class.__dict__["code"] for error_class in project_errors()}
    assert len(codes) == len(project_errors())


@every_error
def test_error_survives_the_wire(error: AtmError) -> None:
    received = sent_and_received(error)
    assert type(received) is seen_by_clients(error)
    if not isinstance(error, StoreUnavailable | OutcomeUnknown):  # whose facts stay on the server
        assert facts(received) == facts(error)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_every_decimal_fact_is_exact(limit: Decimal) -> None:
    received = sent_and_received(BalanceOutOfRange("0", limit))
    assert isinstance(received, BalanceOutOfRange)
    assert received.limit == limit


@every_error
def test_facts_do_not_overwrite_standard_members(error: AtmError) -> None:
    members = problem_document(error)
    response = response_for(seen_by_clients(error))
    assert members["type"] == f"urn:mini-atm:error:{seen_by_clients(error).code}"
    assert (members["title"], members["status"]) == (response.title, response.status)
    assert "instance" not in members
    if isinstance(error, UnknownRefusal):  # its only fact is the sentence itself
        assert facts(error) == {"detail": members["detail"]}
    else:
        assert RESERVED.isdisjoint(facts(error))


@every_error
def test_detail_is_the_error_s_sentence(error: AtmError) -> None:
    detail = problem_document(error)["detail"]
    if isinstance(error, StoreUnavailable | OutcomeUnknown):
        assert detail == str(sent_and_received(error))
    else:
        assert detail == str(error)


@pytest.mark.parametrize("error_class", [StoreUnavailable, OutcomeUnknown])
def test_store_and_reason_stay_on_the_server(error_class: type[StoreUnavailable | OutcomeUnknown]) -> None:
    body = encode(problem_document(error_class("postgresql://secret-host/db", "secret reason"))).decode()
    assert "secret" not in body
    assert "of this server" in body


def test_uninitialized_store_is_unavailable_to_clients() -> None:
    error = StoreNotInitialized("secret.sqlite3", "there is no secret file", 0)
    assert problem_document(error) == problem_document(StoreUnavailable(error.store, error.reason))


def test_advice_of_an_unknown_outcome_is_sent() -> None:
    received = sent_and_received(OutcomeUnknown("x", "y", "Read the balance."))
    assert isinstance(received, OutcomeUnknown)
    assert received.advice == "Read the balance."


@every_error
def test_errors_member_points_at_the_wrong_part(error: AtmError) -> None:
    amount = f"#/{getattr(error, 'parameter', None)}"
    pointer = {"invalid-amount": amount, "invalid-body": "#/amount", "invalid-note": "#/note"}.get(error.code)
    errors = [{"pointer": pointer, "detail": str(error)}] if pointer else None
    assert problem_document(error).get("errors") == errors


def test_pointer_names_the_wrong_sum_of_money() -> None:
    error = InvalidAmount("-5", "must not be negative", "overdraft_limit")
    assert problem_document(error)["errors"] == [{"pointer": "#/overdraft_limit", "detail": str(error)}]
    received = sent_and_received(error)
    assert isinstance(received, InvalidAmount)
    assert received.parameter == "overdraft_limit"


def test_missing_fact_with_a_default_has_the_default() -> None:
    received = decode_problem(b'{"type": "urn:mini-atm:error:invalid-amount", "reason": "must be positive"}')
    assert isinstance(received, InvalidAmount)
    assert (received.reason, received.parameter) == ("must be positive", "amount")


@pytest.mark.parametrize(
    ("members", "detail"),
    [
        (b'"detail": "Account 0 is frozen."', "Account 0 is frozen."),
        (b'"detail": "No.", "limit": 1e999999, "account_number": [[]]', "No."),
        (b'"detail": 5', "5"),
    ],
)
def test_unknown_code_gives_unknown_refusal(members: bytes, detail: str) -> None:
    error = decode_problem(b'{"type": "%b", %b}' % (UNKNOWN, members))
    assert isinstance(error, UnknownRefusal)
    assert str(error) == error.detail == detail


@pytest.mark.parametrize(
    ("code", "members"),
    [
        ("account-not-found", ""),
        ("account-not-found", '"account_number": 9'),
        ("account-not-found", '"account_number": null'),
        ("balance-out-of-range", '"account_number": "0"'),
        ("balance-out-of-range", '"account_number": "0", "limit": "much"'),
        ("balance-out-of-range", '"account_number": "0", "limit": [1]'),
        ("overloaded", '"waiting": 1.5'),
        ("overloaded", '"waiting": true'),
        ("overloaded", '"waiting": {"a": 1}'),
        ("invalid-amount", '"amount": 1'),
    ],
)
def test_known_code_with_wrong_facts_gives_unknown_refusal(code: str, members: str) -> None:
    body = f'{{"type": "urn:mini-atm:error:{code}", "detail": "No."{members and ", "}{members}}}'
    error = decode_problem(body.encode())
    assert isinstance(error, UnknownRefusal)
    assert error.detail == "No."


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"5", b'"urn:mini-atm:error:overloaded"', b"[]", b"{}", b"{", b"\xff", b"<html></html>", NESTED,
        b'{"type": 5}', b'{"type": null}', b'{"type": ["%b"]}' % UNKNOWN, b'{"type": {"%b": 1}}' % UNKNOWN,
        b'{"type": "about:blank"}', b'{"type": "https://example.org/problem"}', b'{"type": "\xff"}',
        b'{"type": ' + NESTED, b'{"type": "%b", "detail": ' % UNKNOWN + NESTED,
        b'{"type": "%b", "limit": 1e99999999999999999999}' % UNKNOWN,
        b'{"type": "%b", "limit": %b}' % (UNKNOWN, b"9" * 100_000),
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
def test_body_that_is_no_problem_document_gives_none(body: bytes) -> None:
    assert decode_problem(body) is None


def test_problem_of_http_itself_is_no_error_of_the_core() -> None:
    members = http_problem_document(404, "There is nothing here.")
    assert members == {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "There is nothing here."}
    assert decode_problem(encode(members)) is None


class LimitsReached(AtmError):
    """A refusal whose facts are nested."""

    code = "test-limits-reached"
    limits: dict[str, list[str]]

    def __str__(self) -> str:
        return f"Limits reached: {', '.join(self.limits)}."


@given(st.text())
def test_every_text_of_an_error_is_printable(text: str) -> None:
    members = {"type": f"urn:mini-atm:error:{LimitsReached.code}", "limits": {text: [text]}}
    error = decode_problem(json.dumps(members).encode())
    assert isinstance(error, LimitsReached)
    ((name, (value,)),) = error.limits.items()
    assert name == value
    assert value.isprintable()
    assert (value == text) is text.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)


@given(
    code=st.sampled_from([*(error.code for error in EXAMPLES), "test-of-a-later-release"]),
    members=st.dictionaries(st.sampled_from(["account_number", "limit", "waiting", "reason", "detail", "key"]), JSON),
)
def test_any_members_give_an_error(code: str, members: dict[str, object]) -> None:
    error = decode_problem(json.dumps({"type": f"urn:mini-atm:error:{code}", **members}).encode())
    assert error is not None
    assert error.code in (code, UnknownRefusal.code)
    assert str(error).isprintable()


@given(st.binary() | st.builds(lambda text: json.dumps({"type": text}).encode(), st.text()))
def test_random_bytes_give_none(body: bytes) -> None:
    assert decode_problem(body) is None


def test_subclass_of_a_known_error_is_rebuilt_by_its_own_code() -> None:
    class AccountFrozen(AccountNotFound):
        code = "test-frozen"

    received = sent_and_received(AccountFrozen("0"))
    assert type(received) is AccountFrozen
    assert received.account_number == "0"
