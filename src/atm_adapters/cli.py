"""The ``atm`` command: parse, call the core, print.

Results go to standard output, messages to standard error. What only some commands need is imported
by those, so that the others start fast.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from errno import ENOSPC
from typing import Annotated

import typer

from atm_adapters.capabilities import AuditableStore, ListableStore, Store
from atm_adapters.stores import (
    KNOWN_STORES,
    default_store,
    kind_of_store,
    open_store,
    without_password,
)
from atm_core import (
    Account,
    AccountNotFound,
    AtmError,
    AuditedAccount,
    check_balance,
    deposit,
    open_account,
    withdraw,
)


class _Atm(typer.Typer):
    def __call__(self, *args: object, **kwargs: object) -> object:
        try:
            return super().__call__(*args, **kwargs)
        except OSError as error:
            if error.errno != ENOSPC:
                raise
            typer.echo(f"atm: The output could not be written: {error.strerror}.", err=True)
            sys.exit(1)


app = _Atm(
    name="atm",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Keep account balances: read, deposit, withdraw, exact to the cent.",
    epilog="""
Examples:

- `atm balance 0`
- `atm deposit 0 100`
- `atm withdraw 0 50.25 --key order-1234`
- `atm accounts`
- `atm verify`
- `atm serve`
- `atm check http://127.0.0.1:8000`

Exit codes: 0 done; 1 checked and found wrong, or the output could not be written; 2 wrong usage, or an invalid
amount or account number; 3 refused (unknown account, account exists already, key reused, balance out of range);
4 store or server unavailable.
""",
)

AccountNumber = Annotated[str, typer.Argument(help="1 to 64 of A-Z a-z 0-9 _ -", metavar="ACCOUNT", show_default=False)]
Amount = Annotated[
    str,
    typer.Argument(help="In the currency's major unit, such as 100 or 10.25.", metavar="AMOUNT", show_default=False),
]
Key = Annotated[
    str | None,
    typer.Option(help="Idempotency key: asked for again under the same key, nothing moves.", metavar="KEY"),
]
AsJson = Annotated[bool, typer.Option("--json", help='Print {"account_number": …, "balance": …}.')]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="ATM_STORE",
        metavar="URL",
        help=f"Where the accounts are: {KNOWN_STORES}. By default a SQLite file in your user data folder.",
        show_default=False,
    ),
]


class LogLevel(StrEnum):
    """The levels of ``logging`` that make sense on a console."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class LogFormat(StrEnum):
    """How log lines are written."""

    console = "console"
    json = "json"


# "-5" is an amount that wants a better answer than "No such option".
_TAKES_NEGATIVE_NUMBERS = {"ignore_unknown_options": True}


@app.command()
def balance(account_number: AccountNumber, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Print the balance of an account.

    Example: `atm balance 0`
    """
    with _accounts(store) as accounts:
        _print(check_balance(accounts, account_number), as_json=as_json)


@app.command(name="deposit", context_settings=_TAKES_NEGATIVE_NUMBERS)
def deposit_command(
    account_number: AccountNumber, amount: Amount, key: Key = None, store: StoreUrl = None, as_json: AsJson = False
) -> None:
    """Deposit an amount, and print the new balance.

    Example: `atm deposit 0 100 --key salary-2026-11`
    """
    with _accounts(store) as accounts:
        _print(deposit(accounts, account_number, amount, key), as_json=as_json)


@app.command(name="withdraw", context_settings=_TAKES_NEGATIVE_NUMBERS)
def withdraw_command(
    account_number: AccountNumber, amount: Amount, key: Key = None, store: StoreUrl = None, as_json: AsJson = False
) -> None:
    """Withdraw an amount, and print the new balance. The account may go below zero.

    Example: `atm withdraw 0 50.25`
    """
    with _accounts(store) as accounts:
        _print(withdraw(accounts, account_number, amount, key), as_json=as_json)


@app.command(name="open")
def open_command(
    account_number: AccountNumber,
    balance: Annotated[str, typer.Option(help="The opening balance; it may be below zero.", metavar="AMOUNT")] = "0",
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Open an account, and print its balance.

    Example: `atm open 42 --balance 5`
    """
    with _accounts(store) as accounts:
        _print(open_account(accounts, account_number, balance), as_json=as_json)


@app.command()
def accounts(
    store: StoreUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help='Print {"accounts": […], "count": …, "total": "…"}.')] = False,
) -> None:
    """List all accounts with their balances, and the total.

    In a terminal it is a table, in a pager if it is long. Elsewhere it is a line for each account and nothing else,
    with a tab before the balance.

    Example: `atm accounts`
    """
    from atm_adapters.listing import columns, json_document, pages_of, table

    with _accounts(store) as books:
        if not isinstance(books, ListableStore):
            raise _unable(store, "does not list its accounts: run this where it keeps them.")
        pages = pages_of(books)
        if as_json:
            _echo_all(json_document(pages))
        elif sys.stdout.isatty():
            _echo_with_pager(table(pages))
        else:
            _echo_all(columns(pages))


@app.command()
def verify(
    store: StoreUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help='Print {"accounts": …, "entries": …, "wrong": […]}.')] = False,
) -> None:
    """Check that each balance is its opening balance plus its journal; exit with 1 if one is not.

    Nothing is changed, and the accounts may be in use.

    Example: `atm verify`
    """
    from atm_adapters.listing import audit_document, audit_report

    with _accounts(store, must_exist=True) as books:
        if not isinstance(books, AuditableStore):
            raise _unable(
                store,
                "has no journal to verify: memory keeps none, and a server's is verified where the server keeps it.",
            )
        count = entries = 0
        wrong: list[AuditedAccount] = []
        for account in _with_progress_bar(books.audit(), books.count_accounts()):
            count += account.balance is not None
            entries += account.entries
            if not account.is_right:
                wrong.append(account)

    if as_json:
        _echo_all(audit_document(count, entries, wrong))
    else:
        _echo_all(audit_report(count, entries, wrong))
    if wrong:
        raise typer.Exit(1)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Number of processes that serve.", min=1, max=64)] = 1,
    log_level: Annotated[
        LogLevel, typer.Option(help="What to log: refusals are warnings, everything else is info.")
    ] = LogLevel.info,
    log_format: Annotated[
        LogFormat, typer.Option(help="How to log: lines for people, or one JSON object a line.")
    ] = LogFormat.console,
    allow_host: Annotated[
        list[str],
        typer.Option(
            envvar="ATM_ALLOW_HOST",
            metavar="NAME",
            help="On a loopback address, answer to this host name too (a proxy may send its own). May be repeated.",
        ),
    ] = [],  # noqa: B006 - Typer's way; it is not changed
    allow_origin: Annotated[
        list[str],
        typer.Option(
            envvar="ATM_ALLOW_ORIGIN",
            metavar="URL",
            help="Let web pages of this origin, such as https://example.org, move money. May be repeated.",
        ),
    ] = [],  # noqa: B006
    store: StoreUrl = None,
) -> None:
    """Serve the accounts over HTTP until Ctrl-C or SIGTERM; both finish what was begun.

    Example: `atm serve --port 8080 --store accounts.sqlite3`
    """
    from atm_adapters.http.cross_site import normal_origin
    from atm_adapters.http.server import AddressUnavailable, run

    with _errors_reported():
        url = default_store() if store is None else store
        if kind_of_store(url) == "memory" and workers > 1:
            raise typer.BadParameter(
                "memory: lives in one process, so each worker would have accounts of its own; "
                "use one worker, or a store that processes can share.",
                param_hint="--workers",
            )
        if _is_address_of(url, host, port):
            raise typer.BadParameter("a server can't be its own store.", param_hint="--store")
        try:
            allowed_origins = [normal_origin(origin) for origin in allow_origin]
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--allow-origin") from None
        try:
            run(
                url,
                host=host,
                port=port,
                workers=workers,
                log_level=log_level.value,
                log_format=log_format.value,
                allowed_hosts=allow_host,
                allowed_origins=allowed_origins,
            )
        except AddressUnavailable as error:
            typer.echo(f"atm: {error}", err=True)
            raise typer.Exit(1) from None


@app.command()
def check(
    url: Annotated[
        str,
        typer.Argument(help="Where the server is, such as http://127.0.0.1:8000.", metavar="URL", show_default=False),
    ],
    account: Annotated[
        list[str],
        typer.Option(metavar="ACCOUNT", help="An account to check with; two are needed, so name it twice."),
    ] = ["0", "1"],  # noqa: B006 - Typer's way; it is not changed
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one object: server, accounts (each with account_number, found and left), passed, "
            "failed, not_supported, notes, and checks (each with name, outcome, sent, received, expected and reason).",
        ),
    ] = False,
) -> None:
    """Check a server of this API, anybody's, by what it answers.

    Deposits to two of its accounts and withdraws from them, with hostile amounts and many clients at once too,
    and puts them back. Nobody else should use them meanwhile. Exit code 1 if anything failed, 3 if the accounts
    can't be used, 4 if the server can't be reached.

    Example: `atm check http://127.0.0.1:8000 --account 0 --account 1`
    """
    from atm_adapters.api_check.report import as_table, running, to_json
    from atm_adapters.api_check.run import AccountsUnusable, ServerUnreachable, check_api, valid_url
    from atm_core.account import valid_account_number

    try:
        valid_url(url)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint="URL") from None
    if len(account) != 2 or account[0] == account[1]:
        raise typer.BadParameter(
            "two different accounts are needed, such as --account 0 --account 1.", param_hint="--account"
        )
    with _errors_reported():
        numbers = [valid_account_number(number) for number in account]
    try:
        with running() as (say, step):
            report = check_api(url, numbers, say=say, step=step)
    except (ServerUnreachable, AccountsUnusable) as error:
        typer.echo(f"atm: {error}", err=True)
        raise typer.Exit(4 if isinstance(error, ServerUnreachable) else 3) from None
    _echo(to_json(report) if as_json else as_table(report))
    if report.failed:
        raise typer.Exit(1)


def _is_address_of(url: str, host: str, port: int) -> bool:
    if kind_of_store(url) != "remote":
        return False
    from urllib.parse import urlsplit

    from atm_adapters.loopback import is_loopback

    try:
        named, named_port = urlsplit(url).hostname or "", urlsplit(url).port
    except ValueError:  # what is wrong with it, the store will say
        return False
    listens_on_loopback = is_loopback(host) or host in ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on
    return named_port == port and (named == host or (listens_on_loopback and is_loopback(named)))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        _echo(f"atm {version('mini-atm')}")
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep account balances: read, deposit, withdraw, exact to the cent."""


@contextmanager
def _accounts(url: str | None, *, must_exist: bool = False) -> Iterator[Store]:
    with _errors_reported(), closing(open_store(url, must_exist=must_exist)) as accounts:
        try:
            yield accounts
        except AccountNotFound as error:
            error.add_note(f"To list the accounts: atm accounts{_store_option(url)}")
            raise


@contextmanager
def _errors_reported() -> Iterator[None]:
    try:
        yield
    except AtmError as error:
        from atm_adapters.error_catalogue import report_for

        typer.echo(" ".join(["atm:", str(error), *getattr(error, "__notes__", ())]), err=True)
        raise typer.Exit(report_for(error).exit_code) from None


def _store_option(url: str | None) -> str:
    """How to name the same store in another command, as far as it can be shown."""
    if url is None or url == os.environ.get("ATM_STORE"):
        return ""
    from shlex import quote

    return f" --store {quote(without_password(url))}"


def _unable(url: str | None, why: str) -> typer.Exit:
    typer.echo(f"atm: The store {without_password(url or default_store())} {why}", err=True)
    return typer.Exit(2)


def _print(account: Account, *, as_json: bool) -> None:
    result = str(account.balance)
    if as_json:
        from atm_adapters.exact_json import encode_account

        result = encode_account(account).decode()
    _echo(result)


def _echo(result: str) -> None:
    try:
        typer.echo(result)
    except OSError as error:  # a full disk or a closed pipe must not hide that the money moved
        typer.echo(f"atm: done ({result}), but that could not be printed: {error.strerror}.", err=True)
        raise typer.Exit(1) from None


def _echo_all(texts: Iterable[str]) -> None:
    for text in texts:
        typer.echo(text, nl=False)


def _echo_with_pager(texts: Iterator[str]) -> None:
    """Print what fits on the screen, and leave what doesn't to the user's pager."""
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
    _echo_all([begun])


def _with_progress_bar(audits: Iterable[AuditedAccount], total: int) -> Iterable[AuditedAccount]:
    if not sys.stderr.isatty():
        return audits
    from rich.console import Console
    from rich.progress import track

    return track(audits, "Verifying", total, console=Console(stderr=True), transient=True)
