"""A program that has imported what ``atm`` imports, has one thread and no store, and forks a process for each command.

``atm_process.py`` starts it. Its argument is the descriptor of a socket. Each message there has four descriptors: a
connection, which receives the command and reports its id and its exit status, and the three standard streams.
"""

import atexit
import gc
import os
import runpy
import signal
import socket
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from io import BufferedReader, BufferedWriter, FileIO, StringIO, TextIOWrapper
from multiprocessing.connection import Connection
from pathlib import Path

# What atm and its commands import. A missing name costs time, not correctness. Tracing is missing, because its packages
# read variables when they are imported.
_MODULES = [
    "atm_adapters.front_ends.cli", "atm_adapters.front_ends.cli.findings",
    "atm_adapters.front_ends.cli.interrupts", "atm_adapters.front_ends.cli.journal_lines",
    "atm_adapters.front_ends.cli.listing", "atm_adapters.front_ends.cli.progress",
    "atm_adapters.front_ends.http.metrics", "atm_adapters.front_ends.http.server.run",
    "atm_adapters.conformance.http_api.run", "atm_adapters.repositories.group_commit",
    "atm_adapters.repositories.memory", "atm_adapters.repositories.postgres", "atm_adapters.repositories.remote",
    "atm_adapters.repositories.sqlite", "uvloop", "uvicorn.lifespan.on", "uvicorn.loops.uvloop",
]  # fmt: skip


def _serve(requests: socket.socket) -> None:
    """Fork for each request. This function returns in the process of a command, which is ready for its script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends pytest, which ends this process
    while received := socket.recv_fds(requests, 1, 4)[1]:
        if os.fork() == 0:
            requests.close()
            reports, streams = Connection(received[0]), received[1:]
            arguments, environment, folder, new_session = reports.recv()
            if command := os.fork():
                for stream in streams:
                    os.close(stream)
                reports.send(command)
                status = os.waitpid(command, 0)[1]
                with suppress(BrokenPipeError):  # the caller has ended
                    reports.send(status)
                os._exit(0)
            reports.close()
            return _become(arguments, environment, folder, new_session, streams)
        for descriptor in received:
            os.close(descriptor)
        _reap()
    _reap()
    os._exit(0)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(
    arguments: list[str], environment: dict[str, str], folder: str, new_session: bool, streams: list[int]
) -> None:
    if new_session:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for own, given in enumerate(streams):
        os.dup2(given, own)
        os.close(given)
    # New objects, because the old ones remember whether the fork server's streams were files, pipes or terminals.
    sys.stdin = sys.__stdin__ = TextIOWrapper(BufferedReader(FileIO(0, closefd=False)))  # type: ignore[misc]
    unbuffered = "PYTHONUNBUFFERED" in environment
    for number, name in ((1, "stdout"), (2, "stderr")):
        raw = FileIO(number, "w", closefd=False)
        stream = TextIOWrapper(
            raw if unbuffered else BufferedWriter(raw),
            errors=getattr(sys, name).errors,
            line_buffering=number == 2 or os.isatty(1),
            write_through=unbuffered,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.chdir(folder)
    os.environ.clear()  # the same object, because modules refer to it
    os.environ.update(environment)
    sys.argv = arguments


def _end(codes: list[int]) -> None:
    """Skip what the interpreter does last, the release of all memory, which costs more than most commands."""
    with suppress(OSError):  # the interpreter reports it
        sys.stdout.flush()
        sys.stderr.flush()
        for code in codes:
            os._exit(code)


if __name__ == "__main__":
    exit_codes: list[int] = []
    atexit.register(_end, exit_codes)  # before the imports, so that it is called last
    sys.path[0] = str(Path(sys.executable).parent)  # as for the script
    for name in _MODULES:
        import_module(name)
    for usage in ("--help", "balance 0 --store redis:"):  # imports what typer needs, and opens no store
        with suppress(SystemExit), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            import_module(_MODULES[0]).app(usage.split())
    gc.collect()
    gc.freeze()  # fewer pages to copy in each process
    _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        exit_codes += [end.code] if isinstance(end.code, int) else []
        raise
