"""``atm check`` and access tokens, with a real server and with one that pretends to ask for them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.atm_process import run_atm
from support.http_api_check import ACCESS_CHECK, failures, select_checks, with_outcome
from support.reference_api import ReferenceApi, Request, Response, serving
from support.server import Server, running_server
from support.waiting import until

from atm_adapters.conformance.http_api.run import check_api

VALUE = "the-right-one"
NEEDS_OPENING = {
    "An account is opened once",
    "Limits are shown and obeyed",
    "A history has each entry once",
    "Accounts can be closed and reopened",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    file = tmp_path / "tokens.toml"
    file.touch()
    with running_server("memory:", tmp_path, "--tokens", str(file)) as running:
        yield running


def add(folder: Path, *options: str) -> str:
    """Make a token, and return it."""
    done = run_atm("token", "add", f"t{len(options)}", *options, "--tokens", str(folder / "tokens.toml"))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_token_for_everything_passes_every_check(server: Server, tmp_path: Path) -> None:
    token = add(tmp_path, "--may", "read,move,manage", "--all-accounts")
    messages: list[str] = []
    report = check_api(
        server.address, ("0", "1"), token=wait_for(server, token), say=messages.append, step=lambda _: None
    )
    assert (failures(report), with_outcome(report, "not supported")) == (set(), set())
    assert token not in "\n".join(messages)
    assert token.rpartition("_")[2] not in server.log.read_text()


def test_token_for_two_accounts_skips_what_needs_a_third(server: Server, tmp_path: Path) -> None:
    token = wait_for(server, add(tmp_path, "--may", "read,move", "--account", "0", "--account", "1"))
    report = check_api(server.address, ("0", "1"), token=token, say=lambda _: None, step=lambda _: None)
    assert failures(report) == set()
    assert with_outcome(report, "not supported") == NEEDS_OPENING


def wait_for(server: Server, token: str) -> str:
    """Return the token when the server has read the file again."""
    environment = {**os.environ, "ATM_TOKEN": token}
    until(lambda: run_atm("balance", "0", "--store", server.address, env=environment).returncode == 0, seconds=10)
    return token


@pytest.mark.parametrize(
    ("token", "code", "message"),
    [
        (
            "",
            3,
            "responds with 401 to GET /accounts/0/balance. It may need an access token: set ATM_TOKEN, or use --tok",
        ),
        ("atm_00000000_00", 3, "responds with 401 to GET /accounts/0/balance. The access token must be valid, and all"),
        ("two words", 2, "Invalid value for ATM_TOKEN: the access token is malformed"),
    ],
)
def test_refused_token_is_reported_before_any_check(server: Server, token: str, code: int, message: str) -> None:
    done = run_atm("check", server.address, env={**os.environ, "ATM_TOKEN": token, "COLUMNS": "200"})
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr


def test_server_without_tokens_does_not_support_them(monkeypatch: pytest.MonkeyPatch) -> None:
    select_checks(monkeypatch, ACCESS_CHECK)
    with serving(ReferenceApi()) as address:
        report = check_api(address, ("0", "1"), token=VALUE, say=lambda _: None, step=lambda _: None)
    assert with_outcome(report, "not supported") == {ACCESS_CHECK}


@pytest.mark.parametrize("fault", [None, "no challenge", "any scheme", "deposits", "unknown accounts", "403"])
def test_server_that_accepts_strangers_fails(monkeypatch: pytest.MonkeyPatch, fault: str | None) -> None:
    async def respond(api: ReferenceApi, request: Request) -> Response:
        (value,) = request.values(b"authorization") or ("",)
        accepts = (
            value == f"Bearer {VALUE}"
            or (fault == "any scheme" and value.startswith("Basic "))
            or (fault == "deposits" and request.method == "POST")
            or (fault == "unknown accounts" and "/0/" not in request.path)
        )
        if accepts:
            return await api.respond(request)
        challenge = () if fault == "no challenge" else ((b"www-authenticate", b'Bearer realm="x"'),)
        is_known = value == "" or fault != "403"
        return Response(401 if is_known else 403, b"{}", headers=challenge)

    select_checks(monkeypatch, ACCESS_CHECK)
    with serving(ReferenceApi(handler=respond)) as address:
        report = check_api(address, ("0", "1"), token=VALUE, say=lambda _: None, step=lambda _: None)
    assert failures(report) == (set() if fault is None else {ACCESS_CHECK})
    assert report.accounts[0].found == report.accounts[0].left == 1000
