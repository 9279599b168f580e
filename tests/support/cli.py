"""The ``atm`` command, run in a process of its own."""

import os
import pty
from contextlib import suppress
from pathlib import Path

from support.atm_process import AtmProcess, run_atm


class Atm:
    """Runs commands in a folder, with an environment that a test may change."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment = environment
        self.folder = folder

    @property
    def default_store(self) -> Path:
        """The file that commands use without the option ``--store``."""
        return Path(self.environment["XDG_DATA_HOME"]) / "mini-atm" / "accounts.sqlite3"

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Return the exit code, the standard output and the standard error."""
        done = run_atm(*arguments, env=self.environment, cwd=self.folder)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    def init(self, store: str) -> None:
        """Create a store with the accounts 0 and 1."""
        assert self("init", "--demo", "--store", store)[0] == 0

    def assert_fails(self, command: str, exit_code: int, message: str) -> None:
        """Check that a command prints only an error that contains the message, and moves no money."""
        code, output, error = self(*command.split())
        assert (code, output) == (exit_code, "")
        assert message in " ".join(error.replace("│", " ").split())
        assert self("balance", "0")[1] == "1000.00\n"

    def with_full_disk(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the standard error of a command whose output cannot be written."""
        environment = {name: value for name, value in self.environment.items() if name != "PYTHONUNBUFFERED"}
        with Path("/dev/full").open("w") as full:
            done = run_atm(*arguments, stdout=full, env=environment, cwd=self.folder)
        return done.returncode, done.stderr

    def in_terminal(self, *arguments: str, stdout: int | None = None) -> str:
        """Run a command in a terminal of ten lines, and return the text shown there.

        :param stdout: a file instead of the terminal.
        """
        keyboard, terminal = pty.openpty()
        with (
            open(keyboard, "rb", buffering=0) as screen,  # noqa: PTH123 - a file descriptor
            AtmProcess(
                *arguments,
                stdin=terminal,
                stdout=terminal if stdout is None else stdout,
                stderr=terminal,
                env={**self.environment, "LINES": "10", "TERM": "xterm", "PAGER": "sed s/^/paged:/"},
                cwd=self.folder,
            ),
        ):
            os.close(terminal)
            shown = b""
            with suppress(OSError):  # Linux reports a closed terminal as an error
                while piece := screen.read(4096):
                    shown += piece
        return shown.decode().replace("\r\n", "\n")
