"""A real ``atm serve`` in a process of its own, or its application in a thread; on a free port of the loopback."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from atm_adapters.group_commit import Immediate
from atm_adapters.http.app import create_app
from atm_adapters.http.protocol import BoundedProtocol
from atm_adapters.repositories.memory import InMemoryAccountRepository
from support.waiting import until

ATM = str(Path(sys.executable).with_name("atm"))


@dataclass
class Server:
    """A server that runs."""

    process: "subprocess.Popen[str]"
    address: str
    banner: list[str]
    log: Path

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Where to connect a socket to."""
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        return host, int(port)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and give the exit code."""
        self.process.send_signal(how)
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        """``kill -9`` the server and its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)


@contextmanager
def running_server(store: str, folder: Path, *options: str) -> Iterator[Server]:
    """Start ``atm serve --store STORE`` with a log in the folder, and stop it at the end."""
    log = folder / "server.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [ATM, "serve", "--port", "0", "--store", store, *options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a process group of its own, to be killed whole
        )
    with process:
        server = Server(process, "", [], log)
        try:
            assert process.stdout is not None
            server.banner = [process.stdout.readline().rstrip("\n") for _ in range(3)]
            server.address = server.banner[0].rpartition(" ")[2]
            assert server.address, log.read_text()
            yield server
        finally:
            server.kill()


@contextmanager
def serving(accounts: InMemoryAccountRepository) -> Iterator[tuple[str, int]]:
    """Serve accounts that were made by hand, from a thread of this process, and say where to connect a socket to."""
    app = create_app(Immediate(accounts))
    server = uvicorn.Server(uvicorn.Config(app, http=BoundedProtocol, log_config=None, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started)
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()
