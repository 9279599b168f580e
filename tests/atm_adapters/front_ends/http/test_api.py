"""The HTTP API of a running server, tested through a socket."""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse

import httpx
import pytest
from support.problems import assert_problem
from support.server import Server
from support.waiting import until

JSON = {"Content-Type": "application/json"}
CALLS = ("balance", "deposit", "withdraw", "history", "limits", "close", "reopen")


def balance(client: httpx.Client, account_number: str = "0") -> str:
    """Return the digits of the balance in the body of the response."""
    match = re.fullmatch(
        rf'{{"account_number":"{account_number}","balance":(-?\d+\.\d\d)}}',
        client.get(f"/accounts/{account_number}/balance").text,
    )
    assert match is not None
    return match[1]


def test_deposit_and_withdrawal_return_the_exact_balance(client: httpx.Client) -> None:
    before = client.get("/accounts/1/balance")
    assert before.status_code == 200
    assert before.headers["content-type"] == "application/json"
    assert before.text == '{"account_number":"1","balance":1000.00}'
    answers = [
        client.post("/accounts/1/deposit", json={"amount": 100}),
        client.post("/accounts/1/withdraw", json={"amount": 50}),
        client.post("/accounts/1/deposit", json={"amount": "0.10"}),
        client.post("/accounts/1/withdraw", content='{"amount": 2000.20}', headers=JSON),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.text.partition('"balance":')[2] for answer in answers] == [
        '1100.00,"entry":2}',
        '1050.00,"entry":3}',
        '1050.10,"entry":4}',
        '-950.10,"entry":5}',
    ]


def test_json_content_types_and_unknown_members_are_accepted(client: httpx.Client) -> None:
    before = balance(client)
    for content_type in (None, "application/json; charset=utf-8", "Application/JSON", "application/problem+json"):
        answer = client.post(
            "/accounts/0/deposit",
            content=b'{"x": ["x"], "amount": 1e-2}',
            headers={"Content-Type": content_type} if content_type else {},
        )
        assert answer.status_code == 200
    assert float(balance(client)) == pytest.approx(float(before) + 0.04, abs=1e-9)


def test_key_with_or_without_quotes_applies_one_transaction_once(client: httpx.Client) -> None:
    def deposit(key: str, amount: str = '"1.00"') -> httpx.Response:
        return client.post(
            "/accounts/0/deposit", content=f'{{"amount": {amount}}}', headers={**JSON, "Idempotency-Key": key}
        )

    first = deposit("a-key")
    client.post("/accounts/0/withdraw", json={"amount": 5})
    before = balance(client)
    assert [deposit(key, amount).text for key, amount in (("a-key", "1"), ('"a-key"', '"1.0"'))] == [first.text] * 2
    refusal = deposit("a-key", "2")
    assert (refusal.status_code, refusal.json()["type"]) == (422, "urn:mini-atm:error:key-reused")
    withdrawal = client.post("/accounts/0/withdraw", json={"amount": 1}, headers={"Idempotency-Key": "a-key"})
    assert withdrawal.status_code == 422
    assert deposit(r'"with \"quotes\" and \\"').status_code == 200
    assert deposit(r'with "quotes" and ' + "\\").text == deposit(r'"with \"quotes\" and \\"').text
    assert float(balance(client)) == float(before) + 1


@pytest.mark.parametrize(
    "keys",
    [["a", "b"], ["a", "a"], [""], ["k" * 256], ['"half'], ['"a"b"'], ['"bad \\escape"'], ['""'], ['"a"; p=1'], ["é"]],
)
def test_repeated_or_malformed_key_is_400(client: httpx.Client, keys: list[str]) -> None:
    before = balance(client)
    headers = [("Idempotency-Key", key.encode("latin-1")) for key in keys]
    answer = client.post("/accounts/0/deposit", content=b'{"amount": 1}', headers=headers)  # type: ignore[arg-type]
    assert_problem(answer, 400, "invalid-key")
    assert balance(client) == before


INVALID_AMOUNTS = [
    b"0", b"-5", b"-0.0", b"0.001", b"1e-400", b"10000000000000", b"1e400", b"1E+1000000", b"1e99999999999999999999",
    b"12345678901234567.89", b"9999999999999.990000000000001", b"true", b"false", b"null", b"[]", b"[1]", b"{}",
    b'""', b'"abc"', b'"NaN"', b'"sNaN"', b'"Infinity"', b'"-Infinity"', b'" 5 "', b'"1_000"', b'"1e5"', b'"0x10"',
    '"\u0661"'.encode(), b'"5\\n"', b'"-5"', b'"0"', b'"0.001"', b'"' + b"9" * 8_000 + b'"', b"9" * 8_000,
]  # fmt: skip


@pytest.mark.parametrize("amount", INVALID_AMOUNTS, ids=lambda amount: amount[:30].decode())
@pytest.mark.parametrize("account_number", ["0", "unknown"])
def test_invalid_amount_is_422_even_for_an_unknown_account(
    client: httpx.Client, amount: bytes, account_number: str
) -> None:
    before = balance(client)
    for call in ("deposit", "withdraw"):
        answer = client.post(f"/accounts/{account_number}/{call}", content=b'{"amount": ' + amount + b"}", headers=JSON)
        assert_problem(answer, 422, "invalid-amount")
        (error,) = answer.json()["errors"]
        assert error["pointer"] == "#/amount"
        assert len(answer.content) < 1000
    assert balance(client) == before


INVALID_BODIES = [
    b"", b" ", b"{", b"}", b"[]", b'[{"amount": 1}]', b'"amount"', b"100", b"null", b"{}", b'{"Amount": 1}',
    b'{"amount": 1, "amount": 2}',
    b'{"amount": NaN}', b'{"amount": Infinity}', b'{"amount": 01}', b'{"amount": 1}{"amount": 1}', b'{"amount": 1,}',
    b"{'amount': 1}", b"amount=1", b'{"amount": "\xff"}', b'{"\xff": 1, "amount": 1}', b'\xef\xbb\xbf{"amount": 1}',
    '{"amount": 1}'.encode("utf-16"), b'{"amount": "\\ud800"}', b"[" * 4_000 + b"]" * 4_000, b"[" * 8_000,
    b'{"amount": ' + b"[" * 4_000 + b"]" * 4_000 + b"}", b'{"x": ' * 1_100 + b"}" * 1_100, b"\x00" * 1000,
]  # fmt: skip


@pytest.mark.parametrize("body", INVALID_BODIES, ids=lambda body: ascii(body[:30]))
def test_body_that_is_not_an_object_with_an_amount_is_422(client: httpx.Client, body: bytes) -> None:
    before = balance(client)
    answer = client.post("/accounts/0/deposit", content=body, headers=JSON)
    assert_problem(answer, 422, "invalid-body")
    assert answer.json()["errors"][0]["pointer"] in ("#", "#/amount")
    assert balance(client) == before


def test_hostile_bodies_are_refused_in_milliseconds(client: httpx.Client) -> None:
    for body in (*INVALID_BODIES, *(b'{"amount": ' + amount + b"}" for amount in INVALID_AMOUNTS)):
        answers = [client.post("/accounts/0/deposit", content=body, headers=JSON) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [422] * 3
        assert min(answer.elapsed.total_seconds() for answer in answers) < 0.1  # the others waited for a busy machine


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", ""]
)
def test_other_content_type_is_415(client: httpx.Client, content_type: str) -> None:
    before = balance(client)
    answer = client.post("/accounts/0/deposit", content=b'{"amount": 1}', headers={"Content-Type": content_type})
    assert_problem(answer, 415)
    assert balance(client) == before


@pytest.mark.parametrize("account_number", ["2", "01", "zero", "-", "x" * 64])
def test_unknown_account_is_404(client: httpx.Client, account_number: str) -> None:
    for answer in (
        client.get(f"/accounts/{account_number}/balance"),
        client.post(f"/accounts/{account_number}/deposit", json={"amount": 1}),
        client.post(f"/accounts/{account_number}/withdraw", json={"amount": 1}),
    ):
        assert_problem(answer, 404, "account-not-found")
        assert account_number in answer.json()["detail"]


@pytest.mark.parametrize(
    "account_number", ["x" * 65, "a%20b", "0%0a", "%00", "%D9%A1", "0.", "%C3%A9", "%ff", "0;x", "+1"]
)
def test_malformed_account_number_is_422(client: httpx.Client, account_number: str) -> None:
    assert_problem(client.get(f"/accounts/{account_number}/balance"), 422, "invalid-account-number")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/accounts/0/balance", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/accounts/0/balance", {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/accounts/0/deposit", {"POST", "OPTIONS"}),
        ("PUT", "/accounts/0/withdraw", {"POST", "OPTIONS"}),
    ],
)
def test_wrong_method_is_405_with_the_allowed_methods(
    client: httpx.Client, method: str, path: str, allowed: set[str]
) -> None:
    answer = client.request(method, path)
    assert_problem(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/account", "/accounts/0/transfer", "/favicon.ico", "/a/b/c/d/e",
        "/docs/assets/%00", "/docs/assets/" + "x" * 300, "/docs/assets/swagger-ui.css/x", "/docs/assets/..%2fcore.py",
        "/docs/x", "/docs/openapi.json", "/docs/x.html", "/docs/oauth2-redirect.html", "/schema", "/docs/assets",
        "/" + "x" * 15_000,
    ],
)  # fmt: skip
def test_unknown_path_is_404(client: httpx.Client, path: str) -> None:
    assert_problem(client.get(path), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/metrics/", "//metrics", "/metrics//", "/metrics%2f", "/%2Fmetrics", "/docs/", "/health/live/",
        "/health//ready", "/health%2fready", "/openapi.json/", "/accounts/0/balance/", "/accounts//0/balance",
        "/accounts/0%2Fbalance", "//accounts/0/balance", "//",
    ],
)  # fmt: skip
def test_path_that_is_not_canonical_is_404(server: Server, path: str) -> None:
    with socket.create_connection(server.host_and_port, timeout=30) as connection:  # a client would change the path
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        answer = HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
        assert json.loads(answer.read())["type"] == "about:blank"


def test_root_redirects_a_browser_to_the_docs(client: httpx.Client) -> None:
    answer = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (answer.status_code, answer.headers["location"]) == (302, "/docs")
    page = client.get("/", follow_redirects=True)
    assert (page.status_code, page.url.path) == (200, "/docs")
    assert page.headers["content-type"].startswith("text/html")


def test_body_over_8_kib_is_413_with_and_without_content_length(client: httpx.Client) -> None:
    before = balance(client)
    body = b'{"amount": 1}' + b" " * 8 * 1024

    def chunks() -> Iterator[bytes]:
        for begin in range(0, len(body), 1000):
            yield body[begin : begin + 1000]

    assert_problem(client.post("/accounts/0/deposit", content=body, headers=JSON), 413)
    assert_problem(client.post("/accounts/0/deposit", content=chunks(), headers=JSON), 413)
    fits = b'{"amount": 1}' + b" " * (8 * 1024 - 13)
    assert client.post("/accounts/0/deposit", content=fits, headers=JSON).status_code == 200
    assert float(balance(client)) == float(before) + 1


def test_balance_out_of_range_is_422_and_changes_nothing(client: httpx.Client) -> None:
    before = balance(client)
    answer = client.post("/accounts/0/deposit", json={"amount": "9999999999999.99"})
    assert_problem(answer, 422, "balance-out-of-range")
    assert balance(client) == before


def test_account_is_opened_once_with_an_exact_balance(client: httpx.Client) -> None:
    answer = client.post("/accounts", content=b'{"account_number": "Savings_2", "balance": -0.10}', headers=JSON)
    assert (answer.status_code, answer.headers["location"]) == (201, "/accounts/Savings_2")
    assert answer.text == (
        '{"account_number":"Savings_2","balance":-0.10,"available":null,'
        '"overdraft_limit":null,"withdrawal_limit":null,"closed":false,"entry":1}'
    )
    assert balance(client, "Savings_2") == "-0.10"
    assert_problem(client.post("/accounts", json={"account_number": "Savings_2"}), 409, "account-already-exists")
    assert balance(client, "Savings_2") == "-0.10"
    assert client.post("/accounts", json={"account_number": "empty"}).json()["balance"] == 0


def test_refused_opening_has_a_pointer_and_an_example(client: httpx.Client) -> None:
    cases = {
        '{"account_number": "7", "balance": 0.001}': ("invalid-amount", "#/balance", "in whole cents"),
        '{"account_number": "7", "balance": 1, "balance": 2}': ("invalid-body", "#/balance", "more than one balance"),
        '{"account_number": 7}': ("invalid-body", "#/account_number", '{"account_number": "42", "balance": 5}'),
        '{"account_number": "7", "overdraft_limit": -1}': ("invalid-amount", "#/overdraft_limit", "overdraft limit -1"),
        '{"account_number": "7", "withdrawal_limit": true}': ("invalid-amount", "#/withdrawal_limit", "JSON number"),
        '{"account_number": "7", "note": "a\\nb"}': ("invalid-note", "#/note", "without control characters"),
    }
    for body, (code, pointer, words) in cases.items():
        answer = client.post("/accounts", content=body, headers=JSON)
        assert_problem(answer, 422, code)
        assert answer.json()["errors"][0]["pointer"] == pointer
        assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/accounts/0/deposit", {"amount": "-5"}),
        ("/accounts", {"account_number": "7", "balance": "0.001"}),
        ("/accounts/0/limits", {"overdraft_limit": "-5", "withdrawal_limit": "0"}),
    ],
)
def test_openapi_example_of_an_invalid_amount_is_the_real_response(
    client: httpx.Client, path: str, body: dict[str, str]
) -> None:
    (method, operation), *_ = (
        client.get("/openapi.json").json()["paths"][path.replace("/0/", "/{account_number}/")].items()
    )
    example = operation["responses"]["422"]["content"]["application/problem+json"]["examples"]["invalid-amount"]
    assert client.request(method, path, json=body).json() == example["value"]


def test_concurrent_deposits_to_one_account_all_count(client: httpx.Client, server: Server) -> None:
    before = balance(client)

    def deposits(_: int) -> None:
        with httpx.Client(base_url=server.address) as one:
            for _ in range(50):
                assert one.post("/accounts/0/deposit", json={"amount": "0.01"}).status_code == 200

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(deposits, range(8)))
    assert f"{float(balance(client)) - float(before):.2f}" == "4.00"


def test_client_that_disconnects_within_its_request_moves_no_money(client: httpx.Client, server: Server) -> None:
    before = balance(client)
    logged = len(server.log.read_text())
    head = b"POST /accounts/0/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection(server.host_and_port) as leaving_client:
        leaving_client.sendall(head + b'{"amount": 1}')
    until(lambda: "refused for account '0': Bad Request" in server.log.read_text()[logged:])
    assert balance(client) == before
    assert "Traceback" not in server.log.read_text()


def test_openapi_document_has_statuses_problem_documents_and_bounds(client: httpx.Client) -> None:
    description = client.get("/openapi.json").json()
    text = json.dumps(description)
    for reference in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert reference in description["components"]["schemas"]
    assert set(description["paths"]) == {
        "/accounts",
        "/accounts/{account_number}",
        *(f"/accounts/{{account_number}}/{call}" for call in CALLS),
        "/health/live",
        "/health/ready",
    }
    opening = description["paths"]["/accounts"]["post"]
    assert set(opening["responses"]) == {"201", "400", "403", "409", "413", "415", "422", "503"}
    deposit = description["paths"]["/accounts/{account_number}/deposit"]["post"]
    assert set(deposit["responses"]) == {"200", "400", "403", "404", "409", "413", "415", "422", "503"}
    for status, response in deposit["responses"].items():
        assert list(response["content"]) == ["application/json" if status == "200" else "application/problem+json"]
    assert [(one["name"], one["in"]) for one in deposit["parameters"]] == [
        ("account_number", "path"),
        ("Idempotency-Key", "header"),
        ("Prefer", "header"),
    ]
    schemas = description["components"]["schemas"]
    number, string = schemas["Amount"]["oneOf"]
    assert (number["type"], number["minimum"], number["maximum"]) == ("number", 0.01, 9999999999999.99)
    assert string["type"] == "string"
    assert (schemas["Balance"]["type"], schemas["Balance"]["minimum"]) == ("number", -9999999999999.99)


def test_docs_page_loads_files_from_this_server_only(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)=["\']([^"\']+)', page.text)
    assert sum(link.startswith("/docs/assets/") for link in loaded) == 2
    for link in loaded:
        assert link == "data:," or client.get(link).status_code == 200


def test_log_has_the_account_number_and_no_other_client_data(client: httpx.Client, server: Server) -> None:
    logged = server.log.stat().st_size
    headers = {"Idempotency-Key": "secret-key", "User-Agent": "secret-agent"}
    client.get("/accounts/0/balance", headers=headers)
    client.post("/accounts/0/deposit", json={"amount": 1234.56}, headers=headers)
    client.post("/accounts/1/withdraw", json={"amount": "1234.56"}, headers=headers)
    client.post("/accounts/7/withdraw", json={"amount": 1}, headers=headers)
    client.get("/accounts/0%0aFORGED/balance")
    until(lambda: "FORGED" in server.log.read_text()[logged:])
    log = server.log.read_text()[logged:]
    ours = [line for line in log.splitlines() if " atm_adapters." in line]  # not the lines of the server that starts
    lines = [re.sub(r" \[[0-9a-f]{32}\]", "", line).split(" ", 2)[2] for line in ours]
    assert lines == [
        "INFO atm_adapters.front_ends.http.routes: balance of account 0 checked",
        "INFO atm_adapters.front_ends.http.routes: deposit to account 0",
        "INFO atm_adapters.front_ends.http.routes: withdrawal from account 1",
        "WARNING atm_adapters.front_ends.http.problems: refused for account '7': account-not-found",
        r"WARNING atm_adapters.front_ends.http.problems: refused for account '0\nFORGED': invalid-account-number",
    ]
