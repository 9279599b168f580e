"""Web pages of other sites cannot move money. The tests send the requests of browsers, and one starts a browser."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from litestar.testing import TestClient
from support.server import Server, running_server
from support.waiting import until

from atm_adapters.bootstrap import open_async_store
from atm_adapters.front_ends.http.app import create_app


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server("memory:", tmp_path_factory.mktemp("server")) as server:
        yield server


def deposit(server: Server, **headers: str) -> httpx.Response:
    # A page's script can send this without a preflight: no Content-Type, any body.
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{server.address}/accounts/0/deposit", content=b'{"amount": 1}', headers=named)


def balance(server: Server) -> float:
    amount: float = httpx.get(f"{server.address}/accounts/0/balance").json()["balance"]
    return amount


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec_Fetch_Site": "same-site", "Origin": "http://localhost:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "nonsense"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
    ],
)
def test_request_from_another_site_is_refused(server: Server, headers: dict[str, str]) -> None:
    before = balance(server)
    answer = deposit(server, **headers)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Pages of other sites may not change accounts." in answer.json()["detail"]
    assert balance(server) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/accounts"),
        ("POST", "/accounts/0/withdraw"),
        ("PUT", "/accounts/0/limits"),
        ("POST", "/accounts/0/close"),
        ("POST", "/accounts/0/reopen"),
    ],
)
def test_no_call_can_change_an_account_from_another_site(server: Server, method: str, path: str) -> None:
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert httpx.request(method, f"{server.address}{path}", headers=headers).status_code == 403
    assert httpx.request(method, f"{server.address}{path}").status_code in (409, 422)  # it is judged without them


def test_requests_from_own_pages_and_from_programs_are_accepted(server: Server) -> None:
    own = server.address
    for headers in ({}, {"Sec_Fetch_Site": "same-origin", "Origin": own}, {"Origin": own}, {"Sec_Fetch_Site": "none"}):
        assert deposit(server, **headers).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "[::1",
        "127.1",
        "x" * 291 + ".localhost",
    ],
)
def test_foreign_host_on_loopback_is_refused_even_for_reads(server: Server, host: str) -> None:
    before = balance(server)
    read = httpx.get(f"{server.address}/accounts/0/balance", headers={"Host": host})
    for answer in (read, deposit(server, Host=host), deposit(server, Host=host, Sec_Fetch_Site="same-origin")):
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
    assert balance(server) == before


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:80",
        "127.0.0.1:1",
        "127.8.8.8",
        "[::1]:8000",
        "atm.localhost",
        "192.0.2.1",
        "[2001:db8::1]",
    ],
)
def test_loopback_names_and_addresses_are_accepted_as_host(server: Server, host: str) -> None:
    assert deposit(server, Host=host).status_code == 200


def test_foreign_host_is_refused_on_an_address_off_loopback() -> None:
    app = create_app(open_async_store("memory:"), allowed_hosts=["atm.example"])
    hosts = ["192.0.2.1:8000", "atm.example", "localhost", "192.0.2.2", "evil.example", "evil.example:8000"]
    with TestClient(app, base_url="http://192.0.2.1:8000") as client:  # the server's address is the host of the URL
        answers = [client.post("/accounts/0/deposit", json={"amount": 1}, headers={"Host": host}) for host in hosts]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 400, 400]


def test_name_that_the_server_listens_on_is_accepted_as_host(tmp_path: Path) -> None:
    with running_server(
        "memory:", tmp_path, "--host", "127.1", "--no-auth"
    ) as server:  # a name for Python's ipaddress module
        own = f"http://127.0.0.1:{server.host_and_port[1]}/accounts/0/balance"
        assert httpx.get(own, headers={"Host": "127.1"}).status_code == 200
        assert httpx.get(own, headers={"Host": "127.2"}).status_code == 400


def test_operator_can_allow_hosts_and_origins(tmp_path: Path) -> None:
    allow = ["--allow-host", "atm.example", "--allow-host", "Other.example", "--allow-origin", "https://shop.example"]
    with running_server("memory:", tmp_path, *allow) as server:
        assert deposit(server, Host="atm.example:8000").status_code == 200
        assert deposit(server, Host="other.example").status_code == 200
        assert deposit(server, Host="third.example").status_code == 400
        assert deposit(server, Origin="https://shop.example", Sec_Fetch_Site="cross-site").status_code == 200
        assert deposit(server, Origin="http://shop.example", Sec_Fetch_Site="cross-site").status_code == 403


def test_allowed_origin_may_send_requests_and_read_responses(tmp_path: Path) -> None:
    with running_server("memory:", tmp_path, "--allow-origin", "https://shop.example") as server:
        for origin in ("https://shop.example", "https://evil.example"):
            is_allowed = origin == "https://shop.example"
            headers = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type,idempotency-key",
            }
            preflight = httpx.options(f"{server.address}/accounts/0/deposit", headers=headers)
            assert (preflight.status_code == 204) is is_allowed
            headers["Access-Control-Request-Method"] = "PUT"
            assert (
                httpx.options(f"{server.address}/accounts/0/limits", headers=headers).status_code == 204
            ) is is_allowed
            answers = [
                deposit(server, Origin=origin),
                httpx.get(f"{server.address}/accounts/9/balance", headers=headers),
            ]
            for answer in (preflight, *answers):
                assert (answer.headers.get("access-control-allow-origin") == origin) is is_allowed


def test_allowed_origin_may_read_the_headers_of_a_page(tmp_path: Path) -> None:
    with running_server("memory:", tmp_path, "--allow-origin", "https://shop.example") as server:
        answer = httpx.get(f"{server.address}/accounts/0/history", headers={"Origin": "https://shop.example"})
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert {"Link", "Location", "Preference-Applied"} <= exposed


def test_allowed_origin_may_have_capitals_and_a_final_slash(tmp_path: Path) -> None:
    with running_server("memory:", tmp_path, "--allow-origin", "https://Shop.example/") as server:
        answer = deposit(server, Origin="https://shop.example", Sec_Fetch_Site="cross-site")
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"


PAGE = """
<!doctype html><title>waiting</title><script>
const address = "{address}/accounts/0/deposit";
Promise.allSettled([
  fetch(address, {{method: "POST", mode: "no-cors", body: new TextEncoder().encode('{{"amount": 1}}')}}),
  fetch(address, {{method: "POST", headers: {{"Content-Type": "application/json"}}, body: '{{"amount": 1}}'}}),
]).then(() => {{ navigator.sendBeacon(address, new Blob(['{{"amount": 1}}'])); document.title = "done"; }});
</script>
"""


@pytest.mark.skipif(
    shutil.which("chromium") is None and "CI" not in os.environ, reason="needs a browser: apt-get install chromium"
)
def test_page_in_a_browser_moves_no_money(server: Server, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(PAGE.format(address=server.address))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    before, logged = balance(server), server.log.stat().st_size
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        Thread(target=site.serve_forever, daemon=True).start()
        done = subprocess.run(  # noqa: S603 - Debian's browser
            [
                *("chromium", "--headless", "--no-sandbox", f"--user-data-dir={tmp_path / 'profile'}"),
                *("--virtual-time-budget=5000", "--dump-dom", f"http://localhost:{site.server_port}/"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        site.shutdown()
    assert "<title>done</title>" in done.stdout, done.stderr
    until(
        lambda: "refused for account '0': Forbidden" in server.log.read_text()[logged:], why="the browser sent nothing"
    )
    assert balance(server) == before
