"""The tokens file while a server runs: changes, damage and recovery. The token itself appears in no output."""

import logging
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from support.atm_process import run_atm
from support.server import Server, running_server
from support.tokens import add_token, bearer, revoke_token
from support.waiting import until

from atm_adapters.front_ends.http.access import AccessGuard
from atm_adapters.front_ends.http.tokens import Verb, read_entries, read_tokens
from atm_adapters.wire.errors import InvalidTokensFile

BALANCE = "/accounts/0/balance"
TAKES_EFFECT = 2.0  # seconds, as documented


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A tokens file with one token."""
    add_token(tmp_path / "tokens.toml", "keeper", [Verb.monitor])
    return tmp_path / "tokens.toml"


def is_valid(guard: AccessGuard, token: str) -> bool:
    headers = [(b"authorization", f"Bearer {token}".encode())]
    return guard.authenticate({"headers": headers}) is not None  # type: ignore[arg-type]


def stays(condition: Callable[[], bool], seconds: float) -> None:
    """Check that a condition holds for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition()


@pytest.mark.parametrize("days", [0, 1])
def test_token_is_valid_through_its_last_day_in_utc(file: Path, days: int) -> None:
    last_day = datetime.now(UTC).date() + timedelta(days)
    token = add_token(file, "temporary", [Verb.read], expires=last_day)
    is_accepted = is_valid(AccessGuard(str(file)), token)
    assert is_accepted or datetime.now(UTC).date() > last_day


def test_token_is_refused_after_its_last_day(file: Path) -> None:
    token = add_token(file, "temporary", [Verb.read], expires=datetime.now(UTC).date() - timedelta(1))
    assert not is_valid(AccessGuard(str(file)), token)


@pytest.mark.parametrize(("last_day", "end"), [("2027-01-31", "2027-02-01"), ("2027-12-31", "2028-01-01")])
def test_last_day_ends_at_midnight_utc(file: Path, last_day: str, end: str) -> None:
    add_token(file, "temporary", [Verb.read], expires=date.fromisoformat(last_day))
    (token,) = [token for token in read_tokens(str(file)).values() if token.name == "temporary"]
    midnight = datetime.fromisoformat(f"{end}T00:00:00Z").timestamp()
    assert midnight - 1e-5 < token.expires_at <= midnight


def test_last_day_of_the_calendar_is_accepted(file: Path) -> None:
    token = add_token(file, "forever", [Verb.read], expires=date.max)
    assert is_valid(AccessGuard(str(file)), token)


ENTRY = """
id = "0123abcd"
sha256 = "{digest}"
may = ["read"]
accounts = "all"
"""


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "x" * 100_000,
        "\x00",
        "a = 1",
        "[a]",
        "[a]\nb = " + "[" * 5000,
        "[a]" + ENTRY.format(digest="0"),
        "[a]" + ENTRY.format(digest="0" * 63 + "\\n"),
        "[a]" + ENTRY.format(digest="0" * 64) + "more = 1",
        "[a]" + ENTRY.format(digest="0" * 64).replace('["read"]', '["write"]'),
        "[a]" + ENTRY.format(digest="0" * 64).replace('["read"]', "[]"),
        "[a]" + ENTRY.format(digest="0" * 64).replace('"all"', '"some"'),
        "[a]" + ENTRY.format(digest="0" * 64).replace('"all"', '["a b"]'),
        "[a]" + ENTRY.format(digest="0" * 64) + "expires = 2027-13-01",
        '["a\\nb"]' + ENTRY.format(digest="0" * 64),
        '["a\\n"]' + ENTRY.format(digest="0" * 64),
        "[a]" + ENTRY.format(digest="0" * 64) + "[b]" + ENTRY.format(digest="1" * 64),
    ],
)
def test_malformed_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens.toml").write_text(text)
    with pytest.raises(InvalidTokensFile) as error:
        read_entries(str(tmp_path / "tokens.toml"))
    assert str(tmp_path) in str(error.value)


def test_well_formed_entry_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "tokens.toml").write_text("[a]" + ENTRY.format(digest="0" * 64))
    assert list(read_entries(str(tmp_path / "tokens.toml"))) == ["a"]


def break_by_text(file: Path) -> None:
    file.write_text("[broken")


def break_by_removal(file: Path) -> None:
    file.unlink()


def break_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [break_by_text, break_by_removal, break_by_folder])
def test_damaged_file_keeps_the_last_tokens(
    file: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    caplog.set_level(logging.INFO)
    token = add_token(file, "reader", [Verb.read])
    good = file.read_bytes()
    guard = AccessGuard(str(file))
    damage(file)
    until(lambda: not guard.is_current(), seconds=TAKES_EFFECT)
    stays(lambda: is_valid(guard, token) and not guard.is_current(), 1.2)
    if file.is_dir():
        file.rmdir()
    file.write_bytes(good)
    until(guard.is_current, seconds=TAKES_EFFECT)
    assert is_valid(guard, token)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert caplog.records[0].message.endswith("Until it can be read, 2 tokens that were read before remain valid.")


def test_readiness_and_log_tell_of_a_damaged_file(file: Path, tmp_path: Path) -> None:
    token = add_token(file, "reader", [Verb.read])
    with (
        running_server("memory:", tmp_path, "--tokens", str(file)) as server,
        httpx.Client(base_url=server.address) as client,
    ):
        assert client.get("/health/ready").json() == {"status": "ready", "tokens": "current"}
        file.write_text("[broken")
        until(lambda: client.get("/health/ready").json()["tokens"] == "outdated", seconds=TAKES_EFFECT)
        for _ in range(20):
            assert client.get(BALANCE, headers=bearer(token)).status_code == 200
        file.write_text("")
        until(lambda: client.get(BALANCE, headers=bearer(token)).status_code == 401, seconds=TAKES_EFFECT)
        assert client.get("/health/ready").json() == {"status": "ready", "tokens": "current"}
        until(lambda: "was read again" in server.log.read_text())
        assert server.log.read_text().count(" ERROR ") == 1


def test_repaired_permissions_are_noticed(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only the time of the last change of the file's inode tells."""
    guard = AccessGuard(str(file))
    before = file.stat()
    caplog.set_level(logging.INFO)
    file.chmod(0o640)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    until(lambda: guard.is_current() and "was read again" in caplog.text, seconds=TAKES_EFFECT)


def test_file_is_read_again_only_if_it_changes(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    guard = AccessGuard(str(file))
    stays(guard.is_current, 1.2)
    assert caplog.text == ""


def test_changes_take_effect_in_every_worker(file: Path, tmp_path: Path) -> None:
    """The connections are kept alive, so a revoked token ends on them too."""
    store = str(tmp_path / "accounts.sqlite3")
    assert run_atm("init", "--demo", "--store", store).returncode == 0
    with running_server(store, tmp_path, "--workers", "2", "--tokens", str(file)) as server, ExitStack() as stack:
        until(lambda: server.log.read_text().count("Application startup complete") == 2)
        workers = workers_of(server)
        clients = []
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)  # the other one accepts the connection
            clients.append(stack.enter_context(httpx.Client(base_url=server.address)))
            assert clients[-1].get("/health/live").status_code == 200
            os.kill(worker, signal.SIGCONT)

        def answers(token: str) -> list[int]:
            return [client.get(BALANCE, headers=bearer(token)).status_code for client in clients]

        token = add_token(file, "reader", [Verb.read])
        until(lambda: answers(token) == [200, 200], seconds=TAKES_EFFECT)
        revoke_token(file, "reader")
        until(lambda: answers(token) == [401, 401], seconds=TAKES_EFFECT)
        until(lambda: server.log.read_text().count("was read again") == 4)
        assert workers_of(server) == workers


@pytest.mark.parametrize("options", [[], ["--workers", "2"]])
@pytest.mark.parametrize("text", ["[broken", None])
def test_server_does_not_start_with_a_damaged_file(tmp_path: Path, options: list[str], text: str | None) -> None:
    file = tmp_path / "tokens.toml"
    if text is not None:
        file.write_text(text)
    store = str(tmp_path / "accounts.sqlite3")
    assert run_atm("init", "--store", store).returncode == 0
    done = run_atm("serve", "--port", "0", "--store", store, "--tokens", str(file), *options)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(f"atm: The tokens file {file} cannot be used: ")
    assert done.stderr.count("\n") == 1


def test_empty_name_of_a_file_does_not_turn_tokens_off() -> None:
    done = run_atm("serve", "--port", "0", "--store", "memory:", "--tokens", "")
    assert (done.returncode, done.stdout) == (2, "")


def workers_of(server: Server) -> set[int]:
    """Return the processes of the server's workers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    workers = set()
    for pid in map(int, children):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                workers.add(pid)
    return workers


def test_worker_that_starts_with_a_damaged_file_accepts_no_token(file: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "accounts.sqlite3")
    assert run_atm("init", "--demo", "--store", store).returncode == 0
    token = add_token(file, "reader", [Verb.read])
    good = file.read_bytes()
    with running_server(store, tmp_path, "--workers", "2", "--tokens", str(file)) as server:

        def answers() -> set[int]:
            """Return the statuses that new connections get."""
            return {httpx.get(f"{server.address}{BALANCE}", headers=bearer(token)).status_code for _ in range(20)}

        until(lambda: answers() == {200})
        file.write_text("[broken")
        for worker in (before := workers_of(server)):
            os.kill(worker, signal.SIGKILL)
        until(lambda: len(workers_of(server) - before) == 2)
        replaced = workers_of(server)

        def ready() -> set[str]:
            try:
                return {httpx.get(f"{server.address}/health/ready").json()["tokens"] for _ in range(20)}
            except httpx.TransportError:
                return set()

        until(lambda: ready() == {"outdated"})
        assert answers() == {401}
        until(lambda: server.log.read_text().count("0 tokens that were read before remain valid") == 2)
        assert workers_of(server) == replaced
        file.write_bytes(good)
        until(lambda: answers() == {200}, seconds=TAKES_EFFECT + 1)
        assert workers_of(server) == replaced
        assert "Traceback" not in server.log.read_text()


def test_log_has_the_name_of_the_token_of_each_request(file: Path, tmp_path: Path) -> None:
    token = add_token(file, "reader", [Verb.read], ["0"])
    with running_server("memory:", tmp_path, "--tokens", str(file)) as server:
        with httpx.Client(base_url=server.address) as client:
            client.get(BALANCE, headers=bearer(token) | {"X-Request-ID": "first"})
            client.get("/accounts/1", headers=bearer(token) | {"X-Request-ID": "second"})
            client.get(BALANCE, headers={"X-Request-ID": "third"})
        until(lambda: "[third] " in server.log.read_text())
        assert re.findall(r"\[(.*)\] atm_adapters\S+ (.*)", server.log.read_text()) == [
            ("first reader", "balance of account 0 checked"),
            ("second reader", "refused for account '1': not-allowed"),
            ("third", "refused: not-authenticated"),
        ]


def test_pipelined_request_does_not_have_the_name_of_the_one_before(file: Path, tmp_path: Path) -> None:
    token = add_token(file, "reader", [Verb.read])
    head = "GET /accounts/0/balance HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: "
    requests = f"{head}first\r\nAuthorization: Bearer {token}\r\n\r\n{head}second\r\nConnection: close\r\n\r\n"
    with running_server("memory:", tmp_path, "--tokens", str(file)) as server:
        with socket.create_connection(server.host_and_port, timeout=30) as connection:
            connection.sendall(requests.encode())
            while connection.recv(65536):
                pass
        until(lambda: "[second] " in server.log.read_text())


def test_token_appears_in_no_output(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = add_token(file, "reader", [Verb.read, Verb.monitor])
    wrong = [token[:-1] + ("0" if token[-1] != "0" else "1"), "atm_0badc0de_" + "5" * 64]
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", ".*")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE", ".*")
    answers = []
    with running_server("memory:", tmp_path, "--tokens", str(file), "--log-level", "debug") as server:
        with httpx.Client(base_url=server.address) as client:
            for secret in [token, *wrong]:
                for scheme in ("Bearer ", "bearer  ", "Basic ", ""):
                    headers = {"Authorization": scheme + secret}
                    for method, path in (("GET", BALANCE), ("GET", "/accounts/9"), ("GET", "/nothing")):
                        answers.append(client.request(method, path, headers=headers))
                    answers.append(client.post("/accounts/0/deposit", headers=headers, content=b"{"))
                    answers.append(client.get(BALANCE, headers=[("Authorization", f"Bearer {secret}")] * 2))
            answers.append(client.get("/metrics", headers=bearer(token)))
        processes = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout  # noqa: S607
        server.stop()
        assert server.process.stdout is not None
        printed = server.process.stdout.read()
    outputs = {
        "answers": "".join(f"{answer.headers} {answer.text}" for answer in answers),
        "log": server.log.read_text(),
        "traces": printed,
        "processes": processes,
        "file": file.read_text(),
    }
    assert "http.request.header.user_agent" in printed or "http.request.header.user-agent" in printed
    assert "reader" in outputs["log"]
    for name, output in outputs.items():
        for secret in [token, *wrong]:
            assert secret[13:53] not in output, name
