"""HTTPS, with the limits of plain HTTP: certificates, handshakes, slow clients and large answers."""

import select
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from support.atm_process import run_atm
from support.server import Server, running_server
from support.tokens import add_token, bearer

from atm_adapters.front_ends.http.server.protocol import LimitedHttpProtocol
from atm_adapters.front_ends.http.tokens import Verb

REQUEST = b"GET /accounts/0/balance HTTP/1.1\r\nHost: localhost\r\n\r\n"
SCRIPT = "/docs/assets/swagger-ui-bundle.js"


def make_certificate(folder: Path, name: str) -> tuple[str, str]:
    """Make a certificate that is signed by itself, and return its file and that of its key."""
    certificate, key = str(folder / f"{name}.pem"), str(folder / f"{name}-key.pem")
    subprocess.run(  # noqa: S603 - our own arguments
        f"openssl req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "server")


@pytest.fixture(scope="module")
def server(files: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with running_server("memory:", folder, "--tls-cert", files[0], "--tls-key", files[1]) as server:
        yield server


@pytest.fixture
def context(files: tuple[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=files[0])


@pytest.fixture
def client(server: Server, context: ssl.SSLContext) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, verify=context) as client:
        yield client


def connect(server: Server, context: ssl.SSLContext, **options: int) -> ssl.SSLSocket:
    plain = socket.socket()
    for name, value in options.items():
        plain.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    plain.settimeout(30)
    plain.connect(server.host_and_port)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def everything(connection: socket.socket) -> bytes:
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except (ConnectionError, ssl.SSLEOFError):
        pass  # the server closed the connection
    return received


def test_https_is_in_the_banner_and_redirects_stay_on_it(server: Server, client: httpx.Client) -> None:
    assert server.address.startswith("https://127.0.0.1:")
    assert server.banner[2] == f"Docs:  {server.address}/docs"
    answer = client.get("/", follow_redirects=True)
    assert (answer.status_code, str(answer.url)) == (200, f"{server.address}/docs")


def test_connection_is_kept_alive_and_accepts_pipelined_requests(server: Server, context: ssl.SSLContext) -> None:
    with connect(server, context) as connection:
        for count in (1, 3, 1):
            connection.sendall(REQUEST * count)
            received = b""
            while received.count(b'"balance":') < count:
                received += connection.recv(65536)
            assert received.count(b"HTTP/1.1 200 OK") == count


def test_answer_is_one_record(server: Server, context: ssl.SSLContext) -> None:
    with connect(server, context) as connection:
        connection.sendall(REQUEST)
        answer = connection.recv(65536)  # returns one record of TLS
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b'"balance":' in answer


def test_large_document_arrives_whole_at_a_slow_reader(client: httpx.Client) -> None:
    whole = client.get(SCRIPT).content
    slow = b""
    with client.stream("GET", SCRIPT) as answer:
        for piece in answer.iter_bytes(4000):
            slow += piece
    assert len(whole) == int(answer.headers["content-length"]) > 1_000_000
    assert slow == whole


def test_body_and_limits_are_those_of_plain_http(server: Server, client: httpx.Client, context: ssl.SSLContext) -> None:
    before = client.get("/accounts/1").json()["balance"]
    assert client.post("/accounts/1/deposit", json={"amount": 5}).json()["balance"] == before + 5
    assert client.post("/accounts/1/deposit", content=b" " * 100_000).status_code == 413
    for request, status in ((b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, b"431"), (b"nonsense\r\n\r\n", b"400")):
        with connect(server, context) as connection:
            connection.sendall(request)
            assert everything(connection).split()[1] == status
    assert client.get("/accounts/1").json()["balance"] == before + 5


def test_page_of_the_server_itself_may_change_accounts(server: Server, client: httpx.Client) -> None:
    post = "/accounts/1/deposit", {"amount": 1}
    assert client.post(post[0], json=post[1], headers={"Origin": server.address}).status_code == 200
    assert client.post(post[0], json=post[1], headers={"Origin": "https://evil.example"}).status_code == 403


def test_plain_http_is_not_answered(server: Server) -> None:
    with socket.create_connection(server.host_and_port, timeout=30) as plain:
        plain.sendall(REQUEST)
        assert b"HTTP" not in everything(plain)
    assert "Traceback" not in server.log.read_text()


def test_slow_clients_are_disconnected_and_do_not_block_others(
    server: Server, client: httpx.Client, context: ssl.SSLContext
) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(server.host_and_port, timeout=30)) for _ in range(100)]
        for half in silent[:50]:
            half.sendall(b"\x16\x03\x01\x02\x00\x01")  # the first bytes of a handshake
        idle = stack.enter_context(connect(server, context))
        begun = stack.enter_context(connect(server, context))
        begun.sendall(REQUEST[:20])
        unread = stack.enter_context(connect(server, context, SO_RCVBUF=4096))
        unread.sendall(f"GET {SCRIPT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 9)  # more than the kernel keeps
        assert unread.recv(1) == b"H"
        is_reset = select.poll()
        is_reset.register(unread, select.POLLERR)

        began = time.monotonic()
        while time.monotonic() - began < LimitedHttpProtocol.read_seconds - 1:
            assert client.get("/accounts/0/balance", timeout=1).status_code == 200
        for connection in [*silent, idle]:
            assert everything(connection) == b""
        assert everything(begun).split()[1] == b"408"
        assert is_reset.poll((LimitedHttpProtocol.write_seconds + 5) * 1000)
        assert time.monotonic() - began < LimitedHttpProtocol.read_seconds * 2 + 5
    assert "Traceback" not in server.log.read_text()


def test_reset_connections_leave_no_traceback(server: Server, client: httpx.Client, context: ssl.SSLContext) -> None:
    for sent in (b"", REQUEST[:9], REQUEST, REQUEST * 20):
        connection = connect(server, context)
        connection.sendall(sent)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert client.get("/accounts/0/balance").status_code == 200
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("options", [[], ["--workers", "2"]])
def test_tokens_and_workers_go_with_tls(
    tmp_path: Path, files: tuple[str, str], context: ssl.SSLContext, options: list[str]
) -> None:
    token = add_token(tmp_path / "tokens.toml", "reader", [Verb.read])
    store = str(tmp_path / "accounts.sqlite3")
    assert run_atm("init", "--demo", "--store", store).returncode == 0
    tls = ["--tls-cert", files[0], "--tls-key", files[1], "--tokens", str(tmp_path / "tokens.toml")]
    with running_server(store, tmp_path, *tls, *options) as server:
        with httpx.Client(base_url=server.address, verify=context) as client:
            assert client.get("/accounts/0/balance").status_code == 401
            assert client.get("/accounts/0/balance", headers=bearer(token)).status_code == 200
        server.stop()
        assert "Traceback" not in server.log.read_text()


def test_unusable_certificate_is_reported_before_the_start(tmp_path: Path, files: tuple[str, str]) -> None:
    certificate, key = files
    _, other_key = make_certificate(tmp_path, "other")
    with_passphrase = str(tmp_path / "encrypted.pem")
    subprocess.run(  # noqa: S603
        ["openssl", "ec", "-in", key, "-aes256", "-passout", "pass:x", "-out", with_passphrase],  # noqa: S607
        check=True,
        capture_output=True,
    )
    for chosen, reason in (
        ((certificate, other_key), "key values mismatch"),
        ((certificate, str(tmp_path / "nothing")), "No such file or directory"),
        ((str(tmp_path / "nothing"), key), "No such file or directory"),
        ((str(tmp_path), key), "Is a directory"),
        ((key, key), "malformed"),
        ((certificate, with_passphrase), "passphrase"),
    ):
        workers = ["--workers", "2"] if chosen[1] == other_key else []
        options = ["--tls-cert", chosen[0], "--tls-key", chosen[1], "--store", str(tmp_path / "none.sqlite3"), *workers]
        done = run_atm("serve", "--port", "0", *options, stdin=subprocess.DEVNULL)
        error = " ".join(done.stderr.replace("│", " ").split())
        assert (done.returncode, done.stdout) == (2, "")
        assert reason in error, error
        assert "Traceback" not in error
