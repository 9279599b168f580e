"""The load of ``wrk`` on HTTP servers. Servers and load run on different cores, and each run checks the balances."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from support.postgres import free_port
from support.tokens import bearer

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SECONDS = 1
_CORES = sorted(os.sched_getaffinity(0))
_SERVER_CORE, _LOAD_CORE = _CORES[0], _CORES[-1]


class Answered(NamedTuple):
    """The result of a run: responses a second, and the median and 99th percentile of the latency in milliseconds."""

    per_second: float
    p50: float
    p99: float


@contextmanager
def running(*command: str, token: str | None = None) -> Iterator[int]:
    """Run a server's command on the servers' core, and yield its port when it answers.

    :param token: the access token that it requires.
    """
    port = free_port()
    with TemporaryFile() as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)  # noqa: S603 - a fixed command
        os.sched_setaffinity(process.pid, {_SERVER_CORE})
        try:
            give_up_at = time.monotonic() + 30
            while _balance(port, 0, token) is None:
                if process.poll() is not None or time.monotonic() > give_up_at:
                    log.seek(0)
                    raise SystemExit(f"{command} does not answer: {log.read().decode()}")
                time.sleep(0.05)  # polling without a pause would take the core that the server needs to start
            yield port
        finally:
            process.terminate()
            process.wait()


def reference(app: str) -> list[str]:
    """Return the command that runs a reference application, with the uvicorn options of ``atm serve``."""
    options = ["--http", "httptools", "--no-access-log", "--no-proxy-headers", "--no-server-header"]
    return [str(BIN / "uvicorn"), "--app-dir", str(HERE / "reference"), app, *options, "--log-level", "error"]


def mini_atm(store: str, *options: str, log_level: str = "error") -> list[str]:
    """Return the command that runs ``atm serve``."""
    return [str(BIN / "atm"), "serve", "--store", store, "--log-level", log_level, *options]


def load(port: int, method: str, *, connections: int = 32, accounts: int = 1, token: str | None = None) -> Answered:
    """Send balance requests (GET) or deposits of 1.00 (POST) to accounts in turn, over concurrent connections.

    :param token: the access token that the server requires.
    :raises SystemExit: if a request failed, or if the balances do not match the responses.
    """
    before = _total(port, accounts, token)
    # The script stops sending after SECONDS. wrk ends a second later, when every request has been answered.
    done = subprocess.run(  # noqa: S603 - wrk
        [
            *(_program("wrk"), "-t1", f"-c{connections}", f"-d{SECONDS + 1}s", "-s", str(HERE / "load.lua")),
            *(f"http://127.0.0.1:{port}", "--", str(SECONDS), method, str(accounts)),
            *([] if token is None else [token]),
        ],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {_LOAD_CORE}),
    )
    answered = json.loads(done.stdout.splitlines()[-1])
    moved = _total(port, accounts, token) - before
    if answered["failed"] or moved != (answered["answered"] if method == "POST" else 0):
        raise SystemExit(f"the balances changed by {moved}, but the responses were {answered}")
    # When sending stops, each connection has one unanswered request, whose response is not counted.
    return Answered((answered["answered"] - connections) / SECONDS, answered["p50"], answered["p99"])


def _total(port: int, accounts: int, token: str | None) -> float:
    return sum(_balance(port, number, token) or 0 for number in range(accounts))


def _balance(port: int, account: int, token: str | None) -> float | None:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {} if token is None else bearer(token)
        connection.request("GET", f"/accounts/{account}/balance", headers=headers)
        balance: float = json.loads(connection.getresponse().read())["balance"]
    except ConnectionError:
        return None
    finally:
        connection.close()
    return balance


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed; on Debian: apt install {name}")
    return found
