"""Wrong usage of ``atm serve``. The server itself is tested in ``http/server``."""

import pytest
from support.cli import Atm


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("serve --workers 2 --store memory:", 2, "memory: belongs to one process"),
        ("serve --log-level loud", 2, "'loud' is not one of"),
        ("serve --port 65536", 2, "Invalid value for '--port': 65536 is not between 0 and 65535."),
        ("serve --workers 0", 2, "Invalid value for '--workers': 0 is not between 1 and 64."),
        ("serve --store=", 2, "'' is not a store URL"),
        ("serve --host 256.1.1.1", 1, "atm: Cannot listen on 256.1.1.1:8000: Name or service not known."),
        ("serve --host=", 1, "an empty host means every network"),
    ],
)
def test_server_that_cannot_start_says_why(atm: Atm, command: str, code: int, message: str) -> None:
    atm.assert_fails(command, code, message)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("nowhere/x.db", "The store {folder}/nowhere/x.db is unavailable: there is no folder {folder}/nowhere"),
        (
            "postgresql://atm:secret@127.0.0.1:1/atm",
            "The store postgresql://atm:***@127.0.0.1:1/atm is unavailable: connection failed: ",
        ),
    ],
    ids=["SQLite", "PostgreSQL"],
)
def test_server_without_its_store_exits_with_code_4(atm: Atm, store: str, message: str, workers: str) -> None:
    code, output, error = atm("serve", "--port", "0", "--workers", workers, "--store", store)
    assert (code, output) == (4, "")
    (line,) = error.splitlines()
    assert line.startswith(f"atm: {message.format(folder=atm.folder)}")


@pytest.mark.parametrize(
    "origin", ["*", "https://*.example.org", "https://example.org/shop", "example.org", "null", ""]
)
def test_malformed_origin_cannot_be_allowed(atm: Atm, origin: str) -> None:
    atm.assert_fails(
        f"serve --store memory: --allow-origin={origin}", 2, "is not an origin. Write it like https://example.org"
    )
