"""A page of documentation, followed from top to bottom as a reader would: typed, run and compared with what it shows.

- A ``console`` block shows commands, each after ``$``, and under each exactly what it prints.
- An ``sh`` block has commands whose output is not shown; each of them succeeds.
- A ``python`` block is run, in the same namespace as those before it. If it begins with ``# name.py`` it is
  a file instead, for later commands.

``atm serve`` starts a server, on a free port, that runs until the next one or the end of the page. A page that asks
a server without having started one has the usual one.
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

from support import curl
from support.server import Server, running_server

_BLOCK = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_LINE = re.compile(r"^(?!#)((?:.*\\\n)*.+)\n", re.MULTILINE)
_FILE = re.compile(r"# (\S+\.py)\n")


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line of the page that its text begins on."""

    language: str
    text: str
    line: int


class Command(NamedTuple):
    """A command, and what is shown of its output; nothing where none is shown."""

    text: str
    output: str | None


def blocks(page: Path) -> list[Block]:
    """All the fenced blocks of a page."""
    text = page.read_text()
    return [Block(found[1], found[2], text[: found.start(2)].count("\n") + 1) for found in _BLOCK.finditer(text)]


def commands(block: Block) -> Iterator[Command]:
    """The commands of a ``console`` or an ``sh`` block."""
    if block.language == "console":
        yield from (Command(text, output) for text, output in _COMMAND.findall(block.text))
    elif block.language == "sh":
        yield from (Command(text.partition("  #")[0], None) for text in _LINE.findall(block.text))


class Reader:
    """Somebody who follows a page, in a folder of their own, without a server at first.

    :param without_curl: whether this reader's machine has none, so that a stand-in is used.
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
        monkeypatch.setenv("ATM_STORE", "accounts.sqlite3")

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def follow(self, page: Path, not_run: re.Pattern[str]) -> None:
        """Do what a page says, and hold that it comes out as the page shows.

        :param not_run: which commands are passed over.
        """
        for block in blocks(page):
            where = f"{page.name}, line {block.line}"
            if block.language == "python":
                self._run_program(block.text, where)
            for command in commands(block):
                if not not_run.search(command.text):
                    self._type(command, where)

    def _run_program(self, text: str, where: str) -> None:
        text = self._as_it_is(text)
        if name := _FILE.match(text):
            Path(name[1]).write_text(text)
        else:
            exec(compile(text, where, "exec"), self._names)  # noqa: S102 - our own examples

    def _type(self, command: Command, where: str) -> None:
        where = f"{where}: {command.text}"
        if export := re.fullmatch(r"export (\w+)=(\S+)", command.text):
            self._environment.setenv(export[1], export[2])
            exit_code, output = 0, ""
        elif command.text.startswith("atm serve"):
            exit_code, output = 0, self._serve(shlex.split(command.text)[2:])
        else:
            done = subprocess.run(  # noqa: S603 - our own examples
                ["/bin/sh", "-c", self._as_it_is(command.text)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=300,
            )
            exit_code, output = done.returncode, self._as_shown(done.stdout)
        if command.output is None:
            assert exit_code == 0, f"{where}\n{output}"
        else:
            assert output.rstrip("\n") == command.output.rstrip("\n"), where

    def _serve(self, words: list[str]) -> str:
        """Start a server instead of the one that runs, and give what it prints before its log."""
        parser = ArgumentParser()
        parser.add_argument("--store", default=os.environ["ATM_STORE"])
        parser.add_argument("--port", default="8000")
        named, options = parser.parse_known_args(words)
        self._cleanup.close()
        self._server = self._cleanup.enter_context(running_server(named.store, self._folder, *options))
        self._shown_address = f"http://127.0.0.1:{named.port}"
        return self._as_shown("\n".join(self._server.banner))

    def _as_it_is(self, text: str) -> str:
        """A text of the page, with the address of the server that runs."""
        if self._server is None and "http://127.0.0.1:8000" in text:
            self._serve([])
        return text if self._server is None else text.replace(self._shown_address, self._server.address)

    def _as_shown(self, text: str) -> str:
        return text if self._server is None else text.replace(self._server.address, self._shown_address)
