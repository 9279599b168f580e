"""The two formats of ``atm export``, of which ``atm import`` reads the first.

JSON Lines: one line for each entry, ordered by account number and entry number, and a last line with the totals, such
as ``{"accounts":2,"entries":5}``. Without that line, an export is not complete. CSV: the same facts without the keys.
"""

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

import msgspec

from atm_adapters.front_ends.cli.listing import counted
from atm_adapters.front_ends.cli.output import fail, is_terminal
from atm_adapters.wire.error_responses import INVALID
from atm_adapters.wire.exact_json import EXPORT_MEMBERS, decode_entry, encode_entry, exported_members
from atm_core import Entry, InconsistentJournal
from atm_core.audit import replayed

MAX_LINE: Final = 8192
"""Bytes of a line. The longest entry has fewer, also if another program has escaped every character of it."""

_ENTRIES_AT_ONCE: Final = 500  # each text is written at once, which costs more than the encoding of an entry
_CSV_COLUMNS: Final = tuple(name for name in EXPORT_MEMBERS if name != "key")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_GZIP: Final = b"\x1f\x8b"


class Totals(msgspec.Struct, forbid_unknown_fields=True):
    """The numbers of accounts and entries in a journal."""

    accounts: int
    entries: int

    def count(self, entry: Entry) -> None:
        """Add an entry."""
        self.entries += 1
        self.accounts += entry.account.last_entry == 1


def json_lines(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Format a journal as JSON Lines, some hundred lines at once."""
    totals = Totals(0, 0)

    def line(entry: Entry) -> bytes:
        totals.count(entry)
        return encode_entry(entry) + b"\n"

    yield from _joined(map(line, entries))
    yield msgspec.json.encode(totals) + b"\n"


def csv_lines(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Format a journal as CSV with a header, some hundred lines at once."""
    yield _csv_line(_CSV_COLUMNS)
    yield from _joined(_csv_line(_csv_values(entry)) for entry in entries)


def _csv_values(entry: Entry) -> Iterator[str]:
    members = exported_members(entry)
    for name in _CSV_COLUMNS:
        match members[name]:
            case None:
                yield ""
            case bool() as value:
                yield str(value).lower()
            case str() as text if name == "note" and text.startswith(_FORMULA):
                yield f"'{text}"  # otherwise a spreadsheet would calculate it
            case value:
                yield str(value)


def _csv_line(values: Iterable[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode()


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    while text := b"".join(islice(lines, _ENTRIES_AT_ONCE)):
        yield text


class JournalReader:
    """Reads the output of :func:`json_lines`, and checks it.

    ``totals`` counts what was read.

    :param file: the lines.
    :param name: of the file in error messages.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.totals = Totals(0, 0)
        self._file = file
        self._name = name
        self._line = 0

    def read(self) -> Iterator[Entry]:
        """Yield the entries.

        :raises CommandFailed: at the first line that is wrong. It names the line.
        """
        try:
            for entry in replayed(self._decoded()):
                self.totals.count(entry)
                yield entry
        except InconsistentJournal as error:
            self._fail(f"{error} Export the journal again: lines are missing, were changed or are in another order.")

    def _decoded(self) -> Iterator[Entry]:
        for line in self._lines():
            try:
                entry = decode_entry(line)
            except ValueError as error:
                if (totals := _decoded_totals(line)) is None:
                    self._fail_entry(line, error)
                self._check_end(totals)
                return
            yield entry
        if self._line == 0:
            self._fail("the input is empty. Import the output of atm export.", with_line=False)
        self._fail("the input ends without the line of totals, so it is not complete. Export the journal again.")

    def _lines(self) -> Iterator[bytes]:
        while line := self._read_line():
            self._line += 1
            if len(line) > MAX_LINE:
                self._fail(f"it has more than {MAX_LINE:,} bytes. A line of atm export is shorter.")
            yield line

    def _read_line(self) -> bytes:
        try:
            return self._file.readline(MAX_LINE + 1)
        except OSError as error:
            self._fail(f"the input cannot be read after this line: {error.strerror}. Nothing was imported.")

    def _check_end(self, totals: Totals) -> None:
        if totals != self.totals:
            self._fail(f"it counts {_text(totals)}, but before it are {_text(self.totals)}. Export the journal again.")
        if self._read_line():
            self._line += 1
            self._fail("it follows the line of totals, which must be the last. Import one export at a time.")

    def _fail_entry(self, line: bytes, error: ValueError) -> NoReturn:
        if self._line == 1 and line.startswith(_GZIP):
            self._fail("it is compressed. Use: gunzip -c FILE | atm import -", with_line=False)
        if self._line == 1 and line.startswith(_CSV_COLUMNS[0].encode()):
            self._fail("it is CSV, which has no keys. Import the output of atm export --format jsonl.", with_line=False)
        reason = "the line is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).rstrip(".")
        self._fail(f"{reason}. Each line must be one entry, as atm export writes it.")

    def _fail(self, reason: str, *, with_line: bool = True) -> NoReturn:
        place = f", line {self._line}" if with_line else ""
        fail(f"{self._name}{place}: {reason}", INVALID, "invalid-journal")


def _decoded_totals(line: bytes) -> Totals | None:
    try:
        return msgspec.json.decode(line, type=Totals)
    except ValueError:
        return None


def _text(totals: Totals) -> str:
    return f"{counted(totals.entries, 'entry')} of {counted(totals.accounts, 'account')}"


def import_report(totals: Totals, *, as_json: bool) -> str:
    """Format what was imported, for people or as ``{"accounts":2,"entries":5}``."""
    return msgspec.json.encode(totals).decode() if as_json else f"Imported {_text(totals)}."


@contextmanager
def opened_journal(name: str) -> Iterator[BinaryIO]:
    """Open a file for :class:`JournalReader`, or standard input if its name is ``-``.

    :raises CommandFailed: if it cannot be opened.
    """
    if name == "-":
        if sys.stdin is None or is_terminal(sys.stdin):
            example = "atm export --store OLD | atm import - --store NEW"
            fail(
                f"Standard input is closed or a terminal. Name a file, or use a pipe: {example}",
                INVALID,
                "unreadable-file",
            )
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(name).open("rb"))
        except OSError as error:
            advice = "Name a file with the output of atm export, or - for standard input."
            fail(f"The file {name} cannot be read: {error.strerror}. {advice}", INVALID, "unreadable-file")
        yield file
