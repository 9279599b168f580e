"""Commands for whole stores: create or upgrade one, list its accounts, verify its journal."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated

import typer

from atm_adapters.bootstrap import DEMO_ACCOUNTS, default_store_url, init_store, redact_url, store_kind
from atm_adapters.front_ends.cli.app import STORES, app, fail_unable, opened
from atm_adapters.front_ends.cli.options import StoreUrl
from atm_adapters.front_ends.cli.output import echo, echo_all, echo_in_pager
from atm_core import AccountAlreadyExists, AuditedAccount, Opening
from atm_core.ports import AuditableStore, ListableStore


@app.command(rich_help_panel=STORES)
def init(
    store: StoreUrl = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Add the accounts 0 and 1, with 1000.00 each, unless they exist.")
    ] = False,
) -> None:
    """Create a store, or upgrade an existing one to the schema of this release.

    A new store has no accounts. The command may be repeated, and says what it did. Before an upgrade, make a backup and
    stop the servers of the earlier release, because there is no way back.

    Example: `atm init --store accounts.sqlite3`
    """
    url = default_store_url() if store is None else store
    if store_kind(url) in ("memory", "remote"):
        fail_unable(url, "needs no atm init.")
    name = redact_url(url)
    match init_store(url):
        case None:
            echo(f"The store {name} exists, with the schema of this release.")
        case 0:
            echo(f"Created the store {name}.")
        case version:
            echo(f"Upgraded the store {name} from schema version {version}.")
    if demo:
        with opened(url) as accounts:
            for account in DEMO_ACCOUNTS:
                with suppress(AccountAlreadyExists):
                    accounts.execute(Opening.of(account))
                    echo(f"Opened account {account.account_number} with {account.balance}.")


@app.command(rich_help_panel=STORES)
def accounts(
    store: StoreUrl = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help='Print {"accounts": [...], "count": ..., "total": ...}. Errors are JSON, too.'),
    ] = False,
) -> None:
    """List all accounts with their balances, and the total.

    In a terminal, print a table, in a pager if it is long. Otherwise print one line for each account, with tabs between
    its number, its balance, and open or closed.

    Example: `atm accounts`
    """
    from atm_adapters.front_ends.cli.listing import format_json, format_table, format_tsv, iter_pages

    with opened(store) as listable:
        if not isinstance(listable, ListableStore):
            fail_unable(store, "does not list its accounts: run this command where the server keeps them.")
        pages = iter_pages(listable)
        if as_json:
            echo_all(format_json(pages))
        elif sys.stdout.isatty():
            echo_in_pager(format_table(pages))
        else:
            echo_all(format_tsv(pages))


@app.command(rich_help_panel=STORES)
def verify(
    store: StoreUrl = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help='Print {"accounts": ..., "entries": ..., "wrong": [...]}. Errors are JSON, too.'),
    ] = False,
) -> None:
    """Check that every account matches its journal. Exit with 1 if one does not.

    The check replays all entries. It finds wrong balances and limits, missing, moved and changed entries, entries
    without an account, and keys that occur twice. It changes no account, and other programs may use them during the
    check.

    Example: `atm verify`
    """
    from atm_adapters.front_ends.cli.findings import audit_document, audit_report
    from atm_adapters.wire.error_responses import FAILED

    with opened(store) as auditable:
        if not isinstance(auditable, AuditableStore):
            fail_unable(
                store, "has no journal that this command can read. Run it where a file or a database has the accounts."
            )
        count = entries = 0
        wrong: list[AuditedAccount] = []
        for account in _with_progress_bar(auditable.audit(), auditable.count_accounts()):
            count += account.account is not None
            entries += account.entries
            if not account.is_consistent:
                wrong.append(account)

    echo_all((audit_document if as_json else audit_report)(count, entries, wrong))
    if wrong:
        raise typer.Exit(FAILED)


def _with_progress_bar(audits: Iterable[AuditedAccount], total: int) -> Iterable[AuditedAccount]:
    if not sys.stderr.isatty():
        return audits
    from rich.console import Console
    from rich.progress import track

    return track(audits, "Verifying", total, console=Console(stderr=True), transient=True)
