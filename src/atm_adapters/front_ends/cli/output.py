"""Printing of results to standard output, and of failures to standard error."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import NoReturn, TextIO

import typer

from atm_core import AtmError, OutcomeUnknown


class CommandFailed(Exception):
    """A command cannot do what it was called for. ``code`` names the reason for programs, as in ``AtmError``."""

    def __init__(self, message: str, exit_code: int, code: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code


def fail(message: str, exit_code: int, code: str) -> NoReturn:
    """End the command.

    :param message: a sentence for people.
    :param code: for programs.
    """
    raise CommandFailed(message, exit_code, code) from None


@contextmanager
def failures_reported(*, as_json: bool, key: str | None) -> Iterator[None]:
    """Print why the command failed, and exit with its exit code.

    :param as_json: print a JSON object instead of a sentence.
    :param key: the idempotency key of the command's transaction. JSON names it if the outcome is unknown.
    """
    try:
        yield
    except CommandFailed as failure:
        print_failure(str(failure), failure.code, as_json=as_json)
        raise typer.Exit(failure.exit_code) from None
    except AtmError as error:
        from atm_adapters.wire.error_responses import response_for

        if as_json:
            from atm_adapters.wire.problem_document import facts_of

            facts = facts_of(error) | ({"key": key} if isinstance(error, OutcomeUnknown) else {})
            print_failure(str(error), error.code, facts, as_json=True)
        else:
            print_failure(" ".join([str(error), *getattr(error, "__notes__", ())]), error.code, as_json=False)
        raise typer.Exit(response_for(error).exit_code) from None


def print_failure(message: str, code: str, facts: dict[str, object] | None = None, *, as_json: bool) -> None:
    """Print a failure to standard error: for people, or as ``{"error": {"code": ..., "detail": ...}}``.

    :param message: may contain text from a server or a store, so characters that are not printable are escaped.
    :param facts: further members of the JSON object. Sums become strings.
    """
    from atm_adapters.wire.untrusted_text import printable

    text = f"atm: {message}"
    if as_json:
        text = json_text({"error": {"code": code, "detail": message, **(facts or {})}})
    typer.echo(printable(text), err=True)


def json_text(members: dict[str, object]) -> str:
    """Return a JSON object on one line. Values that JSON does not have, such as sums and days, become strings."""
    import json

    return json.dumps(members, default=str, separators=(",", ":"))


def prepare_output() -> None:
    """Escape the characters that the encoding of standard output lacks."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a standard stream is a terminal. It is None if it was closed before the start."""
    return stream is not None and stream.isatty()


def warn(message: str) -> None:
    """Print a warning to standard error."""
    typer.echo(f"atm: Warning: {message}", err=True)


def echo(result: str, *, if_lost: str | None = None) -> None:
    """Print the result of a command that may have changed a store.

    :param if_lost: the message if the result cannot be printed. The default repeats the result on standard error.
    """
    try:
        typer.echo(result)
    except OSError as error:  # a full disk or a closed pipe must not hide that the money moved
        discard_output()
        if if_lost is None:
            done = ", ".join(" ".join(line.split()) for line in result.splitlines())
            if_lost = f"Done ({done}), but the result could not be printed"
        fail(f"{if_lost}: {error.strerror}.", 1, "output-failed")


def discard_output() -> None:
    """Discard output that could not be written. Otherwise Python tries again when it ends, and prints a traceback."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def echo_all(texts: Iterable[str | bytes]) -> None:
    """Print texts that contain their own line ends."""
    for text in texts:
        typer.echo(text, nl=False)


def echo_in_pager(texts: Iterator[str]) -> None:
    """Print texts that fit on the screen. Show longer ones in the user's pager."""
    from itertools import chain
    from shutil import get_terminal_size

    height = get_terminal_size().lines
    begun = ""
    for text in texts:
        begun += text
        if begun.count("\n") >= height:
            from click import echo_via_pager

            echo_via_pager(chain([begun], texts))
            return
    echo_all([begun])
