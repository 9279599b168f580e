"""Servers on a free port of the loopback interface: ``atm serve`` in a process, or the application in a thread."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from atm_adapters.front_ends.http.app import create_app
from atm_adapters.front_ends.http.server.protocol import LimitedHttpProtocol
from atm_adapters.repositories.bridges import InlineBridge
from atm_adapters.repositories.memory import InMemoryAccountRepository
from support.atm_process import AtmProcess
from support.waiting import until


@dataclass
class Server:
    """A running ``atm serve``."""

    process: "subprocess.Popen[str]"
    address: str
    banner: list[str]
    log: Path

    @property
    def host_and_port(self) -> tuple[str, int]:
        """The address for a socket."""
        host, _, port = self.address.partition("://")[2].rpartition(":")
        return host, int(port)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the process to end, and return its exit code."""
        self.process.send_signal(how)
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        """``kill -9`` the server and its workers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)


@contextmanager
def running_server(store: str, folder: Path, *options: str) -> Iterator[Server]:
    """Run ``atm serve --store STORE`` with its log in the folder, and kill it at the end."""
    log = folder / "server.log"
    with log.open("w") as stderr:
        process = AtmProcess(
            "serve",
            "--port",
            "0",
            "--store",
            store,
            *options,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a new process group, so that its workers can be killed with it
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
def serving(accounts: InMemoryAccountRepository, **options: Any) -> Iterator[tuple[str, int]]:
    """Serve a repository from a thread of this process, and yield the address for a socket.

    :param options: of ``create_app()``.
    """
    app = create_app(InlineBridge(accounts), **options)
    server = uvicorn.Server(uvicorn.Config(app, http=LimitedHttpProtocol, log_config=None, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started)
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join()
