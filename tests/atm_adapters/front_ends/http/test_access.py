"""Which token may call what: every route, with every set of verbs, for its own accounts and for others."""

import re
import socket
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from litestar.routes import ASGIRoute, HTTPRoute
from support.server import serving
from support.tokens import add_token, bearer

from atm_adapters.front_ends.http.access import NOT_AUTHENTICATED
from atm_adapters.front_ends.http.app import create_app
from atm_adapters.front_ends.http.tokens import Verb
from atm_adapters.repositories.bridges import InlineBridge
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import Account, read_history

OWN, FOREIGN, MISSING = "0", "1", "9"
ORIGIN = "https://example.org"
ACCOUNT = "/accounts/{account_number}"


class Call(NamedTuple):
    """What a call needs, its body, and the status of its answer if it is allowed."""

    verb: Verb | None
    body: dict[str, Any] | None = None
    status: int = 200


# In this order, all calls for one account succeed, and leave its balance at 0.
CALLS = {
    ("GET", f"{ACCOUNT}/balance"): Call(Verb.read),
    ("GET", ACCOUNT): Call(Verb.read),
    ("GET", f"{ACCOUNT}/history"): Call(Verb.read),
    ("POST", f"{ACCOUNT}/deposit"): Call(Verb.move, {"amount": 5}),
    ("POST", f"{ACCOUNT}/withdraw"): Call(Verb.move, {"amount": 5}),
    ("PUT", f"{ACCOUNT}/limits"): Call(Verb.manage, {"overdraft_limit": None, "withdrawal_limit": None}),
    ("POST", f"{ACCOUNT}/close"): Call(Verb.manage),
    ("POST", f"{ACCOUNT}/reopen"): Call(Verb.manage),
    ("POST", "/accounts"): Call(Verb.manage, {"account_number": "new"}, status=201),
    ("GET", "/metrics"): Call(Verb.monitor),
    ("GET", "/health/live"): Call(None),
    ("GET", "/health/ready"): Call(None),
    ("GET", "/"): Call(None, status=302),
    ("GET", "/openapi.json"): Call(None),
    ("GET", "/docs"): Call(None),
    ("GET", "/docs/assets/swagger-ui-bundle.js"): Call(None),
    ("GET", "/docs/assets/swagger-ui.css"): Call(None),
}
PROTECTED = {call: facts for call, facts in CALLS.items() if facts.verb is not None}
VERB_SETS = [verbs for count in range(1, 5) for verbs in combinations(Verb, count)]


class Setup(NamedTuple):
    """A server that requires tokens, its accounts, and a client. ``tokens`` are by verbs and accounts."""

    accounts: InMemoryAccountRepository
    address: tuple[str, int]
    client: httpx.Client
    tokens: dict[tuple[tuple[Verb, ...], str], str]

    @property
    def all(self) -> dict[str, str]:
        """The header with the token that may do everything."""
        return bearer(self.tokens[tuple(Verb), "all"])

    def state(self) -> object:
        """Return all accounts and all entries."""
        accounts = self.accounts.list_accounts("", 100)
        return accounts, [read_history(self.accounts, each.account_number, limit=1000) for each in accounts]

    def call(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        return self.client.request(method, path, json=body, headers=headers)

    def raw(self, *requests: bytes) -> list[bytes]:
        """Send requests on one connection, and return the answers."""
        with socket.create_connection(self.address, timeout=30) as connection:
            connection.sendall(b"".join(requests))
            received = b""
            while data := connection.recv(65536):
                received += data
        return re.split(rb"(?=HTTP/1\.1 \d{3} )", received)[1:]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    file = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    scopes: dict[str, Any] = {"own": [OWN], "all": "all"}
    tokens = {
        (verbs, scope): add_token(file, f"{'-'.join(verbs)}_{scope}", verbs, scopes[scope])
        for verbs in VERB_SETS
        for scope in scopes
    }
    accounts = InMemoryAccountRepository([Account(OWN, 0), Account(FOREIGN, 0)])
    with (
        serving(accounts, tokens_file=str(file), allowed_origins=[ORIGIN]) as address,
        httpx.Client(base_url=f"http://127.0.0.1:{address[1]}") as client,
    ):
        yield Setup(accounts, address, client, tokens)


def comparable(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Return everything about an answer but its request id and the second in which it was sent."""
    headers = [(name, value) for name, value in answer.headers.items() if name not in ("date", "x-request-id")]
    return answer.status_code, answer.content, headers


def routes_of(app: Any) -> dict[tuple[str, str], Any]:
    return {
        (method, route.path_format): handler.opt
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    }


def test_every_route_is_in_the_table_and_states_who_may(tmp_path: Path) -> None:
    add_token(tmp_path / "tokens.toml", "one", [Verb.read])
    app = create_app(InlineBridge(InMemoryAccountRepository()), tokens_file=str(tmp_path / "tokens.toml"))
    assert {call: opt["may"] for call, opt in routes_of(app).items()} == {
        call: facts.verb for call, facts in CALLS.items()
    }
    # authorize() is not called for routes of another class.
    assert [route.path for route in app.routes if not isinstance(route, HTTPRoute)] == [NOT_AUTHENTICATED]
    assert all(isinstance(route, HTTPRoute | ASGIRoute) for route in app.routes)


@pytest.mark.parametrize("scope", ["own", "all"])
@pytest.mark.parametrize("verbs", VERB_SETS, ids="-".join)
def test_token_covers_its_verbs_on_its_accounts(setup: Setup, verbs: tuple[Verb, ...], scope: str) -> None:
    headers = bearer(setup.tokens[verbs, scope])
    for (method, template), (verb, body, status) in CALLS.items():
        for number in (OWN, FOREIGN, MISSING) if ACCOUNT in template else (f"{'-'.join(verbs)}",):
            is_covered = scope == "all" or number == OWN or verb is Verb.monitor
            is_allowed = verb is None or (verb in verbs and is_covered)
            expected = 403 if not is_allowed else 404 if number == MISSING else status
            if template == "/accounts":
                body = {"account_number": number}
            before = setup.state()
            answer = setup.call(method, template.format(account_number=number), body, **headers)
            assert (answer.status_code, method, template, number) == (expected, method, template, number)
            if not is_allowed:
                assert setup.state() == before
                problem = answer.json()
                assert (problem["type"], problem["verb"]) == ("urn:mini-atm:error:not-allowed", verb)
                assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'


@pytest.mark.parametrize("call", PROTECTED, ids=" ".join)
@pytest.mark.parametrize("verbs", [(Verb.monitor,), tuple(Verb)], ids=["no verb", "all verbs"])
def test_foreign_account_looks_the_same_whether_it_exists(
    setup: Setup, call: tuple[str, str], verbs: tuple[Verb, ...]
) -> None:
    method, template = call
    if ACCOUNT not in template:
        return
    answers = [
        comparable(
            setup.call(method, template.format(account_number=number), body, **bearer(setup.tokens[verbs, "own"]))
        )
        for number in (FOREIGN, MISSING, "a%20b", "x" * 200)
        for body in (CALLS[call].body, {"amount": "nonsense"})
    ]
    assert answers[0][0] == 403
    assert answers == answers[:1] * 8


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_call_without_a_valid_token_is_401_and_changes_nothing(setup: Setup, call: tuple[str, str]) -> None:
    method, template = call
    before = setup.state()
    token = setup.all["Authorization"].removeprefix("Bearer ")
    wrong = [
        {},
        bearer(token[:-1] + "x"),
        bearer("atm_00000000_" + "0" * 64),
        bearer(token.upper()),
        {"Authorization": "Bearer"},
    ]
    for headers in wrong:
        answers = [
            setup.call(method, template.format(account_number=number), CALLS[call].body, **headers)
            for number in (OWN, MISSING)
        ]
        if CALLS[call].verb is None:
            assert {answer.status_code for answer in answers} == {CALLS[call].status}
        else:
            assert comparable(answers[0]) == comparable(answers[1])
            assert comparable(answers[0]) == comparable(setup.call("GET", "/nothing/here"))
            assert (answers[0].status_code, answers[0].headers["www-authenticate"]) == (401, "Bearer")
            assert answers[0].json()["type"] == "urn:mini-atm:error:not-authenticated"
    assert setup.state() == before


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize(
    ("target", "with_token"),
    [
        ("/accounts/0/balance", None),
        ("/accounts", None),
        ("/metrics", None),
        ("/nothing", 404),
        ("/accounts/0/nothing", 404),
        ("//metrics", 404),
        ("/metrics/", 404),
        ("/metrics%2F", 404),
        ("//health/live", 404),
        ("/health/live/", 404),
        ("/health/live%2e", 404),
        ("/health/live%0a", 404),
        ("/health/live%20", 404),
        ("/health/live/..%2f..%2fmetrics", 404),
        ("/health/live/../../accounts/0/balance", 404),
        ("/health/live;x", 404),
        ("/HEALTH/LIVE", 404),
        ("/docs/", 404),
        ("/docs/nothing", 404),
        ("/docs/assets/nothing", 404),
        ("/docs/assets/swagger-ui.css/nothing", 404),
        ("/docs/assets/../../metrics", 404),
        ("/health/%6cive%00", 404),
        ("/-", 404),
        (NOT_AUTHENTICATED, 404),
        ("/-/not%2dauthenticated", 404),
        ("/%ff", 404),
        ("/" + "x" * 2000, 404),
        ("*", 404),
    ],
)
def test_path_is_protected_however_it_is_written(
    setup: Setup, method: str, target: str, with_token: int | None
) -> None:
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    (without,) = setup.raw(f"{head}\r\n".encode())
    assert without.startswith(b"HTTP/1.1 401 "), without
    (answer,) = setup.raw(f"{head}Authorization: {setup.all['Authorization']}\r\n\r\n".encode())
    status = int(answer.split()[1])
    if with_token is not None:
        assert status == with_token
    else:
        assert status in (200, 204, 405, 422)


@pytest.mark.parametrize("target", ["/health/live", "/health/%6cive", "/health/live?a=b", "http://evil/health/live"])
def test_open_path_needs_no_token(setup: Setup, target: str) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    (answer,) = setup.raw(f"{head}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_target_with_a_host_does_not_pass_as_an_open_path(setup: Setup) -> None:
    for target in ("http://health/live/../../metrics", "http://x/accounts/0/balance", "x:/health/live"):
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        (answer,) = setup.raw(head.encode())
        assert answer.split()[1] in (b"400", b"401"), target


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("Bearer {}", 200),
        ("bearer {}", 200),
        ("BEARER    {}   ", 200),
        ("Bearer{}", 401),
        ("Bearer\t{}", 401),
        ("Bearer {},", 401),
        ("Bearer {} x", 401),
        ('Bearer "{}"', 401),
        ("Bearer {0}, Bearer {0}", 401),
        ("Basic {}", 401),
        ("Token {}", 401),
        ("{}", 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer " + "\u00e9" * 77, 401),
        ("Bearer " + "x" * 15_000, 401),
    ],
)
def test_authorization_is_one_bearer_token(setup: Setup, form: str, status: int) -> None:
    token = setup.all["Authorization"].removeprefix("Bearer ")
    head = "GET /accounts/0/balance HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    (answer,) = setup.raw(f"{head}Authorization: {form.format(token)}\r\n\r\n".encode("latin-1"))
    assert int(answer.split()[1]) == status


def test_token_elsewhere_or_twice_is_no_token(setup: Setup) -> None:
    value = setup.all["Authorization"]
    token = value.removeprefix("Bearer ")
    head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    for request in (
        f"GET /accounts/0/balance?access_token={token} {head}\r\n",
        f"GET /accounts/0/balance {head}Cookie: access_token={token}; Authorization={value}\r\n\r\n",
        f"GET /accounts/0/balance {head}Proxy-Authorization: {value}\r\n\r\n",
        f"GET /accounts/0/balance {head}Authorization: {value}\r\nAuthorization: {value}\r\n\r\n",
        f"GET /accounts/0/balance {head}Authorization: Basic x\r\nauthorization: {value}\r\n\r\n",
        f"GET /accounts/0/balance {head}Authorization:\r\nAuthorization: {value}\r\n\r\n",
    ):
        (answer,) = setup.raw(request.encode())
        assert answer.startswith(b"HTTP/1.1 401 "), request


@settings(max_examples=60, deadline=None)
@given(value=st.binary(max_size=200), name=st.sampled_from([b"Authorization", b"Access-Control-Request-Method"]))
@example(value=b"Bearer " + b"\xff" * 77, name=b"Authorization")
@example(value=b"Bearer atm_\xff\xff\xff\xff\xff\xff\xff\xff_" + b"0" * 64, name=b"Authorization")
def test_no_header_value_is_an_error_of_the_server(setup: Setup, name: bytes, value: bytes) -> None:
    for prefix in (b"", b"Bearer ", b"Bearer atm_"):
        field = b"%b: %b%b\r\n" % (name, prefix, value.replace(b"\r", b"").replace(b"\n", b""))
        request = b"GET /accounts/0/balance HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b\r\n" % field
        (answer,) = setup.raw(request)
        assert answer.split()[1] in (b"400", b"401"), field


def test_preflight_of_a_browser_needs_no_token_but_options_does(setup: Setup) -> None:
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    path = "/accounts/0/deposit"
    answer = setup.call("OPTIONS", path, **preflight, **{"Access-Control-Request-Headers": "authorization"})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert setup.call("OPTIONS", path).status_code == 401
    assert setup.call("OPTIONS", path, **{"Access-Control-Request-Method": "POST"}).status_code == 401
    assert setup.call("OPTIONS", path, **setup.all).status_code == 204


def test_page_of_an_allowed_origin_can_read_the_refusal(setup: Setup) -> None:
    answer = setup.call("POST", "/accounts/0/deposit", {"amount": 1}, Origin=ORIGIN)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, ORIGIN)


def test_cross_site_request_is_refused_with_a_token_too(setup: Setup) -> None:
    before = setup.state()
    for origin in ("https://evil.example", "null"):
        answer = setup.call("POST", "/accounts/0/deposit", {"amount": 1}, Origin=origin, **setup.all)
        assert (answer.status_code, answer.json()["type"]) == (403, "about:blank")
        assert setup.call("POST", "/accounts/0/deposit", {"amount": 1}, Origin=origin).status_code == 401
    assert setup.state() == before


def test_head_needs_the_token_of_get(setup: Setup) -> None:
    assert setup.call("HEAD", "/accounts/0/balance").status_code == 401
    assert setup.call("HEAD", "/accounts/0/balance").content == b""
    assert setup.call("HEAD", "/accounts/0/balance", **setup.all).status_code == 200
    assert setup.call("HEAD", "/accounts/1", **bearer(setup.tokens[(Verb.read,), "own"])).status_code == 403
    assert setup.call("HEAD", "/health/live").status_code == 200


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_refused_body_is_not_read_as_the_next_request(setup: Setup, expect: str) -> None:
    before = setup.state()
    inner = f"POST /accounts/0/deposit HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n{expect}"
    inner += f"Authorization: {setup.all['Authorization']}\r\n\r\n" + '{"amount": 1}'
    outer = f"POST /accounts/0/deposit HTTP/1.1\r\nHost: localhost\r\n{expect}Content-Length: {len(inner)}\r\n\r\n"
    last = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answers = setup.raw((outer + inner).encode(), last.encode())
    assert [answer.split()[1] for answer in answers] == [b"401", b"200"]
    assert setup.state() == before


def test_refusal_comes_before_the_body(setup: Setup) -> None:
    head = "POST /accounts/1/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\nExpect: 100-continue\r\n"
    for field, status in (("", b"401"), (bearer(setup.tokens[(Verb.move,), "own"])["Authorization"], b"403")):
        authorization = f"Authorization: {field}\r\n" if field else ""
        with socket.create_connection(setup.address, timeout=30) as connection:
            connection.sendall(f"{head}{authorization}\r\n".encode())
            assert connection.recv(65536).split()[1] == status


def test_each_pipelined_request_needs_its_own_token(setup: Setup) -> None:
    head = "GET /accounts/0/balance HTTP/1.1\r\nHost: localhost\r\n"
    with_token = f"{head}Authorization: {setup.all['Authorization']}\r\n\r\n"
    answers = setup.raw((with_token + f"{head}\r\n" + with_token + f"{head}Connection: close\r\n\r\n").encode())
    assert [answer.split()[1] for answer in answers] == [b"200", b"401", b"200", b"401"]


def test_openapi_document_describes_tokens_where_they_are_needed(setup: Setup) -> None:
    document = setup.call("GET", "/openapi.json").json()
    assert document["components"]["securitySchemes"] == {"accessToken": {"type": "http", "scheme": "bearer"}}
    described = {
        (method.upper(), path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert described.keys() < CALLS.keys()
    for call, operation in described.items():
        verb = CALLS[call].verb
        if verb is None:
            assert operation["security"] == [{}, {"accessToken": []}]
            assert not {"401", "403"} & operation["responses"].keys()
        else:
            assert operation["security"] == [{"accessToken": []}]
            examples = {
                code: [each["value"] for each in content["examples"].values()]
                for code in ("401", "403")
                for content in operation["responses"][code]["content"].values()
            }
            assert examples["401"][0]["type"] == "urn:mini-atm:error:not-authenticated"
            assert examples["403"][0]["verb"] == verb
            assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]


def test_document_of_a_server_without_tokens_does_not_mention_them() -> None:
    with serving(InMemoryAccountRepository()) as address:
        text = httpx.get(f"http://127.0.0.1:{address[1]}/openapi.json").text.lower()
    assert "security" not in text
    assert "token" not in text
    assert '"401"' not in text
