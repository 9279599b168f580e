"""The README's examples do what they show; so does the one in examples/."""

import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import httpx
from support.server import ATM, running_server

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def shown(console: str) -> list[tuple[str, str]]:
    """The commands in a console block, each with the output that is shown for it."""
    return [(command, output) for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", console, re.MULTILINE)]


def test_the_command_s_examples_print_what_is_shown(tmp_path: Path) -> None:
    (console,) = [block for block in blocks("console") if "curl" not in block]
    commands = shown(console)
    assert len(commands) == 6
    for command, output in commands:
        done = subprocess.run(  # noqa: S603 - the README's own commands
            [ATM, *shlex.split(command)[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            env={**os.environ, "ATM_STORE": str(tmp_path / "accounts.sqlite3")},
        )
        assert done.stdout == output, command


def as_curl_would(command: str, address: str) -> str:
    """Send what a ``curl`` command says, with the options that the README uses, and give the body that comes back."""
    parser = ArgumentParser()
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d")
    parser.add_argument("url")
    curl, *words = shlex.split(command)
    assert curl == "curl"
    options = parser.parse_args(words)
    return httpx.request(
        "POST" if options.d else "GET",
        options.url.replace("http://127.0.0.1:8000", address),
        headers=[tuple(header.split(": ")) for header in options.H],
        content=options.d,
    ).text


def test_the_http_examples_answer_what_is_shown(tmp_path: Path) -> None:
    (console,) = [block for block in blocks("console") if "curl" in block]
    commands = shown(console)
    assert len(commands) == 4
    with running_server("memory:", tmp_path) as server:
        for command, output in commands:
            assert as_curl_would(command, server.address) == output.rstrip("\n"), command


def test_the_library_s_example_runs() -> None:
    (program,) = blocks("python")
    exec(compile(program, "README.md", "exec"), {"__name__": "example"})  # noqa: S102 - our own example


def test_the_example_with_concurrent_clients_finds_all_as_expected(tmp_path: Path) -> None:
    for store in ("memory:", str(tmp_path / "accounts.sqlite3")):
        with running_server(store, tmp_path) as server:
            done = subprocess.run(  # noqa: S603 - our own example
                [sys.executable, ROOT / "examples" / "concurrent_clients.py", server.address],
                capture_output=True,
                text=True,
                timeout=120,
            )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith("All as expected.\n")
