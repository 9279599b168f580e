"""Text from a server, a store or a path does not control the terminal."""

import json
import os
import sqlite3
from contextlib import closing

import pytest
from support.cli import Atm
from support.http_api_check import canned_server

HOSTILE = "\x1b]0;done\x07\x9b2J\r\n\u202e0.00"
ESCAPED = r"\u001b]0;done\u0007\u009b2J\r\n\u202e0.00"


def problem(status: int, code: str, **members: str) -> bytes:
    body = {"type": f"urn:mini-atm:error:{code}", **members}
    return b"HTTP/1.1 %d No\r\n\r\n%b" % (status, json.dumps(body, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (problem(403, "of-a-later-release", detail=HOSTILE), ESCAPED),
        (problem(404, "account-not-found", account_number=HOSTILE), ESCAPED),
        (problem(404, "key-reused", account_number="0", key=HOSTILE), "u001b"),
        (problem(400, "outcome-unknown", store=HOSTILE, reason=HOSTILE, advice=HOSTILE), ESCAPED),
        (problem(404, "account-not-found", account_number="5" * 100_000), "its answer has more than 65,536 bytes"),
        (b"HTTP/1.1 200 OK\x1b[2J\r\n\r\n", "is not an account"),
        (b"HTTP/1.1 200 OK\r\n\x1b[2J: 1\r\n\r\n", "it gave no answer"),
        (b"HTTP/1.1 307 No\r\nLocation: http://[\x1b[2J\r\nContent-Length: 0\r\n\r\n", "it "),
        (b'HTTP/1.1 200 OK\r\n\r\n{"account_number": "\\u001b[2J", "balance": 1}', "is not an account"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"account_number": "1", "balance": 1}', "its answer is for account 1"),
        (b"HTTP/1.1 418 \xc2\x9b2J\r\n\r\n", "it answered 418"),
        (b"HTTP/1.1 699 \xc2\x9b2J\r\n\r\n", "it answered 699, an unknown status"),
    ],
)
def test_answer_of_a_server_is_printed_escaped(atm: Atm, answer: bytes, shown: str) -> None:
    with canned_server([answer]) as url:
        code, output, error = atm("balance", "0", "--store", url)
    assert (output, code in (3, 4, 5)) == ("", True)
    assert error.removesuffix("\n").isprintable()
    assert shown in error


def test_account_numbers_of_a_damaged_store_are_printed_escaped(atm: Atm) -> None:
    atm.init("a.db")
    assert atm("deposit", "0", "1", "--store", "a.db")[0] == 0
    with closing(sqlite3.connect(atm.folder / "a.db")) as connection:
        connection.execute("UPDATE entry SET account_number = ? WHERE account_number = '0'", (HOSTILE,))
        connection.commit()
    code, output, _ = atm("verify", "--store", "a.db")
    assert (code, output.splitlines()[0]) == (
        1,
        f"Account {ESCAPED}: It does not exist, or its row is damaged. It has 2 journal entries. "
        "Entry 1 is the first that does not follow from those before it.",
    )
    code, output, _ = atm("verify", "--store", "a.db", "--json")
    assert output.replace("\n", "").isprintable()
    assert [wrong["account_number"] for wrong in json.loads(output)["wrong"]] == [HOSTILE, "0"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_note_is_printed_escaped(atm: Atm, options: list[str]) -> None:
    assert atm("deposit", "0", "1", "--note", "a\u200bb\ue000c")[0] == 0
    code, output, _ = atm("history", "0", *options)
    assert (code, r"a\u200bb\ue000c" in output) == (0, True)
    assert output.replace("\t", "").replace("\n", "").isprintable()


def test_note_of_a_damaged_store_is_not_printed(atm: Atm) -> None:
    atm.init("a.db")
    assert atm("deposit", "0", "1", "--note", "a note", "--store", "a.db")[0] == 0
    with closing(sqlite3.connect(atm.folder / "a.db")) as connection:
        connection.execute("UPDATE entry SET note = ? WHERE entry = 2", (HOSTILE,))
        connection.commit()
    code, output, error = atm("history", "0", "--store", "a.db")
    assert (code == 0, output) == (False, "")
    assert error.removesuffix("\n").isprintable()


@pytest.mark.parametrize("command", [["accounts"], ["accounts", "--json"], ["balance", "0"], ["verify"]])
@pytest.mark.parametrize("text", [HOSTILE.encode(), b"\xff\x1b[2J"], ids=["text", "not UTF-8"])
def test_damaged_account_is_reported_escaped(atm: Atm, command: list[str], text: bytes) -> None:
    atm.init("a.db")
    with closing(sqlite3.connect(atm.folder / "a.db")) as connection:
        connection.execute("UPDATE account SET account_number = CAST(? AS TEXT) WHERE account_number = '1'", (text,))
        connection.commit()
    _, output, error = atm(*command, "--store", "a.db")
    assert all(line.isprintable() for line in output.split("\n"))
    assert error.removesuffix("\n").isprintable()


@pytest.mark.parametrize("name", [b"\x1b[2J.db", "\u202e.db".encode(), b"\xff.db"])
@pytest.mark.parametrize("command", ["accounts", "verify"])
def test_path_is_printed_escaped(atm: Atm, command: str, name: bytes) -> None:
    (atm.folder / os.fsdecode(name)).write_text("This is a text file. " * 100)
    code, output, error = atm(command, "--store", os.fsdecode(name))
    assert (code, output) == (4, "")
    assert error.removesuffix("\n").isprintable()
    assert ".db is unavailable: " in error


@pytest.mark.parametrize("name", [b"\x1b[2J.db", "\u202e.db".encode(), b"\xff.db"])
def test_path_of_a_new_file_is_printed_escaped(atm: Atm, name: bytes) -> None:
    path = os.fsdecode(name)
    atm.init("a.db")
    for command in (
        ["init", "--store", path],
        ["init", "--json", "--store", path],
        ["backup", path, "--store", "a.db", "--force"],
        ["backup", path, "--store", "a.db", "--force", "--json"],
        ["import", path, "--store", "a.db"],
    ):
        _, output, error = atm(*command)
        assert (output + error).replace("\n", "").isprintable(), command
        assert ".db" in output + error
