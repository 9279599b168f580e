"""``atm`` processes that start in about 20 ms of CPU instead of 200 to 600 ms, most of which is the import of modules.

Each pytest process starts the program ``fork_server.py`` when it needs it. For each command, that program forks a
process, which takes over the streams, environment and folder given here, and runs the installed script. The program
ends when this process closes its end of a socket, at the latest when this process ends.

The real script is started instead if a test changes another environment variable than those below, because modules may
read it when they are imported, and for ``--workers``, whose processes import their modules themselves.
"""

import atexit
import os
import socket
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from typing import Any

ATM = str(Path(sys.executable).with_name("atm"))

_NOT_READ_BY_IMPORTS = {
    "ATM_ALLOW_HOST", "ATM_ALLOW_ORIGIN", "ATM_STORE", "ATM_TOKEN", "ATM_TOKENS_FILE", "COLUMNS", "LINES", "NO_COLOR",
    "PAGER", "PATH", "PYTEST_CURRENT_TEST", "PYTHONUNBUFFERED", "TERM", "XDG_DATA_HOME",
}  # fmt: skip
_ENVIRONMENT = dict(os.environ)
_STARTING = Lock()
_servers: list[socket.socket] = []  # none or one


def run_atm(*arguments: str, timeout: float = 60, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command as ``subprocess.run()`` does, and capture its output, unless the options say otherwise."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with AtmProcess(*arguments, **(pipes | options)) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess([ATM, *arguments], process.returncode, output, errors)


class AtmProcess(subprocess.Popen[str]):
    """A running command. The options are those of ``Popen``: streams, ``cwd``, ``env``, ``start_new_session``."""

    def __init__(self, *arguments: str, **options: Any) -> None:
        self._reports: Connection | None = None
        super().__init__([ATM, *arguments], text=True, **options)

    def _execute_child(self, args: list[str], *others: Any) -> None:  # replaces Popen's fork and exec
        cwd, env, (stdin, _, _, stdout, _, stderr), new_session = others[4], others[5], others[9:15], others[-2]
        environment = dict(os.environ if env is None else env)
        changed = {name for name, _ in environment.items() ^ _ENVIRONMENT.items()}
        if "--workers" in args or not changed <= _NOT_READ_BY_IMPORTS:
            super()._execute_child(args, *others)  # type: ignore[misc] # not public
            return
        self._reports, reports = Pipe()
        streams = [own if given == -1 else given for own, given in enumerate((stdin, stdout, stderr))]
        with reports:
            socket.send_fds(_fork_server(), [b"!"], [reports.fileno(), *streams])
        self._reports.send((args, environment, os.fspath(cwd or Path.cwd()), new_session))
        self.pid = self._reports.recv()
        self._child_created = True
        self._close_pipe_fds(*others[9:15])  # type: ignore[attr-defined] # not public

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process, and return its exit code."""
        if self._reports is None:
            return super().wait(timeout)
        if self.returncode is None:
            if not self._reports.poll(timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(self._reports.recv())
            self._reports.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, or None if the process runs."""
        if self._reports is None:
            return super().poll()
        return self.wait() if self.returncode is not None or self._reports.poll() else None


def _fork_server() -> socket.socket:
    with _STARTING:
        if not _servers:
            ours, theirs = socket.socketpair()
            with theirs:
                server = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    env=_ENVIRONMENT,
                    pass_fds=[theirs.fileno()],
                )
            _servers.append(ours)
            atexit.register(server.wait, timeout=60)
            atexit.register(ours.close)  # called first, and ends the server
        return _servers[0]
