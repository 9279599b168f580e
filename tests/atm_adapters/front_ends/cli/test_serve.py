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
        ("serve --no-auth --host 256.1.1.1", 1, "atm: Cannot listen on 256.1.1.1:8000: Name or service not known."),
        ("serve --host=", 1, "an empty host means every network"),
        ("serve --host 0.0.0.0", 2, "Use --tokens FILE to require access tokens, or --no-auth if a proxy in front"),
        ("serve --host ::", 2, "on ::, every client of the network could move money."),
        ("serve --host atm.example", 2, "on atm.example, every client of the network could move money."),
        ("serve --no-auth --tokens tokens.toml", 2, "it contradicts --tokens and ATM_TOKENS_FILE. Use one of the two."),
        ("serve --tokens=", 2, "the name of the file is empty."),
        ("serve --tls-cert cert.pem", 2, "--tls-cert and --tls-key belong together: give both."),
        ("serve --tls-key key.pem", 2, "--tls-cert and --tls-key belong together: give both."),
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


def test_file_in_the_environment_is_used_like_the_option(atm: Atm) -> None:
    atm.environment["ATM_TOKENS_FILE"] = "tokens.toml"
    atm.assert_fails("serve --no-auth", 2, "it contradicts --tokens and ATM_TOKENS_FILE.")


@pytest.mark.parametrize(("options", "warns"), [(["--tokens", "tokens.toml"], True), (["--no-auth"], False)])
def test_tokens_without_tls_on_a_network_cause_a_warning(atm: Atm, options: list[str], warns: bool) -> None:
    assert atm("token", "add", "a", "--may", "monitor", "--tokens", "tokens.toml")[0] == 0
    # Reserved (RFC 5737): no interface has this address.
    code, output, error = atm("serve", "--store", "memory:", "--host", "192.0.2.1", *options)
    assert (code, output) == (1, "")
    *warnings, failure = error.splitlines()
    assert "Cannot listen on 192.0.2.1:8000" in failure
    warning = "Without --tls-cert, access tokens cross the network unencrypted. A proxy in front should add TLS."
    assert warnings == ([f"atm: Warning: {warning}"] if warns else [])
