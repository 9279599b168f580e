"""The commands ``atm export`` and ``atm import``."""

import csv
import gzip
import io
import json
import re
import signal
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from struct import unpack
from termios import FIONREAD

import pytest
from support.atm_process import AtmProcess, run_atm
from support.cli import Atm
from support.postgres import Postgres, fresh_schema
from support.server import running_server
from support.waiting import until

from atm_adapters.bootstrap import open_store
from atm_adapters.front_ends.cli.journal_lines import MAX_LINE, JournalReader, json_lines
from atm_core import Opening
from atm_core.ports import BatchRepository, PortableStore

EXPORTED = """\
{"account_number":"0","entry":1,"kind":"opening","amount":1000.00,"balance":1000.00,"overdraft_limit":null,\
"withdrawal_limit":null,"closed":false,"note":null,"key":null,"recorded_at":"T"}
{"account_number":"0","entry":2,"kind":"deposit","amount":5.10,"balance":1005.10,"overdraft_limit":null,\
"withdrawal_limit":null,"closed":false,"note":"=1+2, \\"é\\"","key":"k","recorded_at":"T"}
{"account_number":"0","entry":3,"kind":"limit-change","amount":null,"balance":1005.10,"overdraft_limit":0.50,\
"withdrawal_limit":null,"closed":false,"note":null,"key":"l","recorded_at":"T"}
{"account_number":"1","entry":1,"kind":"opening","amount":1000.00,"balance":1000.00,"overdraft_limit":null,\
"withdrawal_limit":null,"closed":false,"note":null,"key":null,"recorded_at":"T"}
"""
TOTALS = '{"accounts":2,"entries":4}\n'
TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


@pytest.fixture
def journal(atm: Atm) -> str:
    """Record four entries in the default store, and return their export, with keys given."""
    atm("deposit", "0", "5.10", "--key", "k", "--note", '=1+2, "é"')
    atm("limits", "0", "--overdraft-limit", "0.5", "--withdrawal-limit", "none", "--key", "l")
    atm("init", "--store", "new.db")
    return atm("export")[1]


def test_export_prints_every_fact_of_every_entry(atm: Atm, journal: str) -> None:
    assert re.sub(TIME, "T", journal) == EXPORTED + TOTALS
    assert atm("export") == (0, journal, "")
    assert atm("export", "--format", "jsonl") == (0, journal, "")


def test_one_account_can_be_exported(atm: Atm, journal: str) -> None:
    lines = journal.splitlines(keepends=True)
    assert atm("export", "--account", "1") == (0, lines[3] + '{"accounts":1,"entries":1}\n', "")
    assert atm("export", "--account", "9") == (
        3,
        "",
        "atm: There is no account 9. To list the accounts: atm accounts\n",
    )
    assert atm("export", "--account", "a b")[:2] == (2, "")


def test_csv_has_no_keys_and_no_formulas(atm: Atm, journal: str) -> None:
    for note in ("+1", "-1", "@sum", "1+1"):
        atm("deposit", "1", "1", "--note", note)
    code, output, _ = atm("export", "--format", "csv")
    header, *rows = csv.reader(io.StringIO(output))
    first = json.loads(journal.splitlines()[0])
    assert code == 0
    assert header == [name for name in first if name != "key"]
    assert all(re.fullmatch(TIME, row.pop()) for row in rows)
    assert rows[:4] == [
        ["0", "1", "opening", "1000.00", "1000.00", "", "", "false", ""],
        ["0", "2", "deposit", "5.10", "1005.10", "", "", "false", '\'=1+2, "é"'],
        ["0", "3", "limit-change", "", "1005.10", "0.50", "", "false", ""],
        ["1", "1", "opening", "1000.00", "1000.00", "", "", "false", ""],
    ]
    assert [row[-1] for row in rows[4:]] == ["'+1", "'-1", "'@sum", "1+1"]


def test_import_fills_an_empty_store_once(atm: Atm, journal: str) -> None:
    (atm.folder / "journal.jsonl").write_text(journal)
    command = ["import", "journal.jsonl", "--store", "new.db"]
    assert atm(*command) == (0, "Imported 4 entries of 2 accounts.\n", "")
    assert atm("export", "--store", "new.db")[1] == journal
    code, output, error = atm(*command)
    assert (code, output) == (3, "")
    assert error.startswith(f"atm: The store {atm.folder / 'new.db'} has accounts. A journal can be imported into an ")
    assert atm("export", "--store", "new.db")[1] == journal
    assert atm("deposit", "0", "5.10", "--key", "k", "--note", '=1+2, "é"', "--store", "new.db")[1] == "1005.10\n"
    assert atm("balance", "0", "--store", "new.db")[1] == "1005.10\n"


def test_export_is_piped_into_import(atm: Atm, journal: str) -> None:
    store = str(atm.folder / "new.db")
    with AtmProcess("export", stdout=subprocess.PIPE, env=atm.environment) as export:
        done = run_atm("import", "-", "--json", "--store", store, stdin=export.stdout, env=atm.environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, TOTALS, "")
    assert export.returncode == 0
    assert atm("export", "--store", "new.db")[1] == journal


def without(number: int) -> Callable[[list[bytes]], bytes]:
    """Return a function that removes a line."""
    return lambda lines: b"".join(lines[: number - 1] + lines[number:])


def replaced(old: bytes, new: bytes) -> Callable[[list[bytes]], bytes]:
    """Return a function that replaces the first such text."""
    return lambda lines: b"".join(lines).replace(old, new, 1)


WRONG: dict[str, tuple[Callable[[list[bytes]], bytes], str]] = {
    "empty": (lambda _: b"", "journal: the input is empty. Import the output of atm export."),
    "no JSON": (lambda _: b"notes\n", "line 1: JSON is malformed: "),
    "array": (lambda _: b"[]\n", "line 1: Expected `object`, got `array`"),
    "empty line": (lambda lines: b"".join([lines[0], b"\n", *lines[1:]]), "line 2: "),
    "not UTF-8": (replaced("é".encode(), b"\xe9"), "line 2: the line is not UTF-8. Each line must be one entry, as"),
    "unknown member": (replaced(b'"entry":2', b'"entry":2,"x":1'), "line 2: Object contains unknown field `x`"),
    "missing member": (replaced(b',"key":"k"', b""), "line 2: Object missing required field `key`"),
    "invalid note": (replaced(b'"=1+2', b'"\\n'), "line 2: The note"),
    "float": (replaced(b"5.10,", b"5.101,"), "line 2: The amount 5.101 must be in whole cents"),
    "balance": (replaced(b"1005.10", b"1005.11"), "line 2: Entry 2 of account 0 does not follow from the entries"),
    "missing line": (without(2), "line 2: Entry 3 of account 0 does not follow from the entries before it. Export"),
    "order": (lambda lines: b"".join([lines[3], *lines[:3], lines[4]]), "line 2: Entry 1 of account 0 does not"),
    "truncated": (without(5), "line 4: the input ends without the line of totals, so it is not complete."),
    "cut off": (lambda lines: b"".join(lines)[:-40], "line 4: "),
    "without the last": (without(4), "line 4: it counts 4 entries of 2 accounts, but before it are 3 entries of 1 acc"),
    "twice": (lambda lines: b"".join(lines * 2), "line 6: it follows the line of totals, which must be the last."),
    "long line": (replaced(b'"kind"', b" " * MAX_LINE + b'"kind"'), "line 1: it has more than 8,192 bytes."),
    "compressed": (lambda lines: gzip.compress(b"".join(lines)), "journal: it is compressed. Use: gunzip -c FILE |"),
    "repeated key": (replaced(b'"key":"l"', b'"key":"k"'), "An earlier entry of the account has the same key."),
}


@pytest.mark.parametrize("damage", WRONG)
def test_wrong_input_is_explained_and_imports_nothing(atm: Atm, journal: str, damage: str) -> None:
    change, message = WRONG[damage]
    (atm.folder / "journal").write_bytes(change(journal.encode().splitlines(keepends=True)))
    code, output, error = atm("import", "journal", "--store", "new.db")
    assert (code, output) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert atm("accounts", "--store", "new.db") == (0, "", "")


def test_csv_cannot_be_imported(atm: Atm) -> None:
    atm("init", "--store", "new.db")
    (atm.folder / "journal").write_text(atm("export", "--format", "csv")[1])
    code, _, error = atm("import", "journal", "--store", "new.db")
    assert code == 2
    assert error == "atm: journal: it is CSV, which has no keys. Import the output of atm export --format jsonl.\n"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("nowhere", "atm: The file nowhere cannot be read: No such file or directory. Name a file with the output of"),
        (".", "atm: The file . cannot be read: Is a directory."),
    ],
)
def test_file_that_cannot_be_read_is_explained(atm: Atm, file: str, message: str) -> None:
    code, output, error = atm("import", file)
    assert (code, output) == (2, "")
    assert error.startswith(message)


def test_import_does_not_wait_for_a_terminal(atm: Atm) -> None:
    shown = atm.in_terminal("import", "-")
    assert shown.startswith(
        "atm: Standard input is closed or a terminal. Name a file, or use a pipe: atm export --store OLD |"
    )


def test_other_stores_are_refused(atm: Atm, tmp_path: Path) -> None:
    (atm.folder / "journal").write_text(TOTALS)
    with running_server("memory:", tmp_path) as server:
        for store in ("memory:", server.address):
            code, output, error = atm("export", "--store", store)
            assert (code, output) == (2, "")
            assert error.startswith(f"atm: The store {store} has no journal that this command can read. Run it where")
            code, output, error = atm("import", "journal", "--store", store)
            assert (code, output) == (2, "")
            assert error.startswith(
                f"atm: The store {store} cannot be filled with a journal. Name a file or a database"
            )


@pytest.fixture
def long_journal(atm: Atm) -> Path:
    """Export 3,000 entries, more than a pipe holds, and return the file."""
    with open_store(str(atm.folder / "long.db"), create=True) as accounts:
        assert isinstance(accounts, BatchRepository)
        accounts.execute_batch([Opening(f"{number:04}", 1) for number in range(3000)])
    file = atm.folder / "long.jsonl"
    file.write_text(atm("export", "--store", "long.db")[1])
    atm("init", "--store", "new.db")
    return file


@contextmanager
def piped(atm: Atm, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """Start a command with pipes, and kill it at the end if it still runs."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with AtmProcess(*arguments, **pipes, env=atm.environment, cwd=atm.folder) as command:
        try:
            yield command
        finally:
            command.kill()


@pytest.mark.usefixtures("long_journal")
def test_closed_pipe_ends_an_export_like_a_listing(atm: Atm) -> None:
    ends = []
    for command in ("export", "accounts"):
        with piped(atm, command, "--store", "long.db") as process:
            assert process.stdout is not None
            process.stdout.close()
            process.stdout = None
            _, error = process.communicate(timeout=30)
            ends.append((process.returncode, error))
    assert ends == [(1, "")] * 2


@pytest.mark.usefixtures("long_journal")
def test_interrupted_export_is_not_imported(atm: Atm) -> None:
    with piped(atm, "export", "--store", "long.db") as export:
        assert export.stdout is not None
        begun = export.stdout.readline()
        export.send_signal(signal.SIGINT)
        rest, error = export.communicate(timeout=30)
    assert (export.returncode, error) == (130, "")
    (atm.folder / "part.jsonl").write_text(begun + rest)
    code, _, error = atm("import", "part.jsonl", "--store", "new.db")
    assert code == 2
    assert atm("accounts", "--store", "new.db") == (0, "", "")


def interrupted_import(atm: Atm, store: str, lines: list[str], number: int) -> tuple[int, str, str]:
    """Send a signal to an import that has read these lines and waits for more."""
    with piped(atm, "import", "-", "--store", store) as command:
        assert command.stdin is not None
        pipe = command.stdin
        pipe.writelines(lines)
        pipe.flush()
        until(lambda: unpack("i", ioctl(pipe, FIONREAD, b"1234")) == (0,))
        command.send_signal(number)
        output, error = command.communicate(timeout=30)
    return command.returncode, output, error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_import_leaves_an_empty_store(atm: Atm, long_journal: Path, number: int) -> None:
    lines = long_journal.read_text().splitlines(keepends=True)
    code, output, error = interrupted_import(atm, "new.db", lines[:1000], number)
    assert (code, output) == (130, "")
    assert error == "atm: Interrupted. Nothing was imported: the store new.db is still empty.\n"
    assert atm("accounts", "--store", "new.db") == (0, "", "")
    assert atm("import", str(long_journal), "--store", "new.db")[0] == 0


def test_interrupted_import_leaves_postgresql_empty(atm: Atm, postgres: Postgres, long_journal: Path) -> None:
    lines = long_journal.read_text().splitlines(keepends=True)
    with fresh_schema(postgres) as url:
        atm("init", "--store", url)
        code, output, error = interrupted_import(atm, url, lines[:-1], signal.SIGINT)
        assert (code, output) == (130, "")
        assert error.endswith(" is still empty.\n")
        assert atm("accounts", "--store", url) == (0, "", "")
        assert atm("import", str(long_journal), "--store", url)[0] == 0


def test_progress_is_shown_in_a_terminal(atm: Atm, long_journal: Path) -> None:
    shown = atm.in_terminal("import", str(long_journal), "--store", "new.db")
    assert "Importing" in shown
    assert "kB" in shown
    assert shown.endswith("Imported 3000 entries of 3000 accounts.\n")
    with (atm.folder / "again.jsonl").open("w") as file:
        shown = atm.in_terminal("export", "--store", "new.db", stdout=file.fileno())
    assert "Exporting" in shown
    assert "100%" in shown
    assert (atm.folder / "again.jsonl").read_text() == long_journal.read_text()
    assert "Exporting" not in atm.in_terminal("export", "--store", "new.db")


def test_memory_for_export_and_import_is_bounded(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "many.db"), create=True) as accounts:
        assert isinstance(accounts, BatchRepository)
        assert isinstance(accounts, PortableStore)
        accounts.execute_batch([Opening(f"{number:06}", 1) for number in range(20_000)])
        tracemalloc.start()
        try:
            with (tmp_path / "many.jsonl").open("wb") as file:
                file.writelines(json_lines(accounts.export_entries()))
            with (tmp_path / "many.jsonl").open("rb") as file:
                read = sum(1 for _ in JournalReader(file, "many.jsonl").read())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert read == 20_000
    assert peak < 2_000_000
