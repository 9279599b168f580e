"""Runs the examples of a documentation page from top to bottom, and compares their output with the page.

- A ``console`` block contains commands after ``$``, each followed by its exact output.
- An ``sh`` block contains commands without output. Each must succeed.
- A ``python`` block runs in the namespace of the previous ones. If it begins with ``# name.py``, it is saved as
  a file for later commands instead.

``atm serve`` starts a server on a free port. It runs until the next ``atm serve`` or the end of the page. A page that
uses the default address without ``atm serve`` gets a server too. The default file of each page is a new one.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from atm_adapters.bootstrap import default_store_url
from support import curl
from support.server import Server, running_server

_BLOCK = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_LINE = re.compile(r"^(?!#)((?:.*\\\n)*.+)\n", re.MULTILINE)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_FILE = re.compile(r"# (\S+\.py)\n")


class Block(NamedTuple):
    """A fenced block: its language, its text, and the number of the text's first line."""

    language: str
    text: str
    line: int


class Command(NamedTuple):
    """A command, and the output that the page shows, or None if it shows none."""

    text: str
    output: str | None


def blocks(page: Path) -> list[Block]:
    """Return all fenced blocks of a page."""
    text = page.read_text()
    return [Block(found[1], found[2], text[: found.start(2)].count("\n") + 1) for found in _BLOCK.finditer(text)]


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a ``console`` or ``sh`` block."""
    if block.language == "console":
        yield from (Command(text, output) for text, output in _COMMAND.findall(block.text))
    elif block.language == "sh":
        yield from (Command(text.partition("  #")[0], None) for text in _LINE.findall(block.text))


def _comparable(output: str) -> str:
    """Return the output of a command with every time of an entry replaced, because it is different in each run."""
    return _TIME.sub("(time)", output.rstrip("\n"))


class Reader:
    """Runs the examples of pages in a folder.

    :param without_curl: whether to use a replacement even if curl is installed.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, without_curl: bool = False) -> None:
        self._folder = folder
        self._environment = monkeypatch
        self._names: dict[str, object] = {"__name__": "example"}
        self._server: Server | None = None
        self._shown_address = ""
        self._cleanup = ExitStack()
        programs = folder / "programs"
        programs.mkdir()
        if without_curl or shutil.which("curl") is None:
            (programs / "curl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{curl.__file__}" "$@"\n')
            (programs / "curl").chmod(0o755)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PATH", f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}")
        monkeypatch.setenv("XDG_DATA_HOME", str(folder / "user-data"))
        monkeypatch.delenv("ATM_STORE", raising=False)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def follow(self, page: Path, not_run: re.Pattern[str]) -> None:
        """Run all examples of a page, and compare their output with the page.

        :param not_run: matches the commands to skip.
        """
        for block in blocks(page):
            where = f"{page.name}, line {block.line}"
            if block.language == "python":
                self._run_python(block.text, where)
            for command in commands(block):
                if not not_run.search(command.text):
                    self._run_command(command, where)

    def _run_python(self, text: str, where: str) -> None:
        text = self._with_actual_address(text)
        if name := _FILE.match(text):
            Path(name[1]).write_text(text)
        else:
            exec(compile(text, where, "exec"), self._names)  # noqa: S102 - our own examples

    def _run_command(self, command: Command, where: str) -> None:
        where = f"{where}: {command.text}"
        if export := re.fullmatch(r"export (\w+)=(\S+)", command.text):
            self._environment.setenv(export[1], export[2])
            exit_code, output = 0, ""
        elif command.text.startswith("atm serve"):
            exit_code, output = 0, self._serve(shlex.split(command.text)[2:])
        else:
            done = subprocess.run(  # noqa: S603 - our own examples
                ["/bin/sh", "-c", self._with_actual_address(command.text)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=300,
            )
            exit_code, output = done.returncode, self._with_shown_address(done.stdout)
        if command.output is None:
            assert exit_code == 0, f"{where}\n{output}"
        else:
            assert _comparable(output) == _comparable(command.output), where

    def _serve(self, words: list[str]) -> str:
        """Replace the running server, and return what the new one prints before its log."""
        parser = ArgumentParser()
        parser.add_argument("--store", default=default_store_url())
        parser.add_argument("--port", default="8000")
        known, options = parser.parse_known_args(words)
        self._cleanup.close()
        self._server = self._cleanup.enter_context(running_server(known.store, self._folder, *options))
        self._shown_address = f"http://127.0.0.1:{known.port}"
        return self._with_shown_address("\n".join(self._server.banner))

    def _with_actual_address(self, text: str) -> str:
        """Return a text of the page, with the address of the running server."""
        if self._server is None and "http://127.0.0.1:8000" in text:
            self._serve([])
        return text if self._server is None else text.replace(self._shown_address, self._server.address)

    def _with_shown_address(self, text: str) -> str:
        return text if self._server is None else text.replace(self._server.address, self._shown_address)
