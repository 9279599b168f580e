"""Commands for whole stores: create, list, copy and verify them."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from atm_adapters.bootstrap import (
    DEMO_ACCOUNTS,
    default_store_url,
    init_store,
    is_default_file,
    redact_url,
    store_kind,
    store_option,
)
from atm_adapters.front_ends.cli.app import STORES, app, fail_unable, opened
from atm_adapters.front_ends.cli.options import ACCOUNT, StoreUrl
from atm_adapters.front_ends.cli.output import echo, echo_all, echo_in_pager, fail, is_terminal, json_text
from atm_core import Account, AccountAlreadyExists, InconsistentJournal, Opening
from atm_core.ports import AuditableStore, BackupStore, ListableStore, PortableStore, Store

if TYPE_CHECKING:
    from atm_adapters.front_ends.cli.findings import Audit

_NO_JOURNAL = "has no journal that this command can read. Run it where a file or a database has the accounts."


class ExportFormat(StrEnum):
    """The formats of an export."""

    jsonl = "jsonl"
    csv = "csv"


@app.command(rich_help_panel=STORES)
def init(
    store: StoreUrl = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Open the accounts 0 and 1, with 1000.00 each, unless they exist.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help='Print {"store": ..., "created": true, "upgraded_from": null, "opened": [...]}. Errors are JSON, too.',
        ),
    ] = False,
) -> None:
    """Create a store, or upgrade an existing one to the schema of this release.

    A new store has no accounts, but for the default file, which begins with the accounts 0 and 1. The command may be
    repeated, and says what it did. Before an upgrade, make a backup and stop the servers of the earlier release,
    because there is no way back.

    Example: `atm init --store accounts.sqlite3`
    """
    from atm_adapters.wire.untrusted_text import printable

    url = default_store_url() if store is None else store
    if store_kind(url) == "memory":
        fail_unable(url, "exists by itself, as long as the program that uses it. Name a file or a database.")
    if store_kind(url) == "remote":
        fail_unable(url, "is a server. Run this command where the server runs, with the store that it serves.")
    version = init_store(url)
    if version == 0 and is_default_file(url):
        new_accounts = list(DEMO_ACCOUNTS)
    elif demo:
        with opened(url) as accounts:
            new_accounts = [account for account in DEMO_ACCOUNTS if _open_account(accounts, account)]
    else:
        new_accounts = []

    name = redact_url(url)
    if as_json:
        report = {
            "store": name,
            "created": version == 0,
            "upgraded_from": version or None,
            "opened": [account.account_number for account in new_accounts],
        }
        echo(json_text(report))
        return
    lines = [_what_init_did(name, version)]
    lines += [f"Opened account {account.account_number} with {account.balance}." for account in new_accounts]
    if demo:
        existing = [account for account in DEMO_ACCOUNTS if account not in new_accounts]
        lines += [f"Account {account.account_number} exists already, and was not changed." for account in existing]
    elif version == 0 and not new_accounts:
        lines += [f"It has no accounts. To open one: atm open 42{store_option(store)}"]
    echo("\n".join(map(printable, lines)))


def _what_init_did(name: str, version: int | None) -> str:
    match version:
        case None:
            return f"The store {name} exists, and its schema is that of this release."
        case 0:
            return f"Created the store {name}."
    return f"Upgraded the store {name} from schema version {version}."


def _open_account(store: Store, account: Account) -> bool:
    """Open an account, and return whether it is new."""
    try:
        store.execute(Opening.of(account))
    except AccountAlreadyExists:
        return False
    return True


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
        elif is_terminal(sys.stdout):
            echo_in_pager(format_table(pages))
        else:
            echo_all(format_tsv(pages))


@app.command(rich_help_panel=STORES)
def export(
    account: Annotated[
        str | None, typer.Option(metavar=ACCOUNT, help="Export this account only.", show_default=False)
    ] = None,
    format: Annotated[  # noqa: A002 - the name of the option
        ExportFormat,
        typer.Option(
            metavar="FORMAT",
            help="jsonl for atm import, with one JSON object per line and the totals in the last line. "
            "csv for spreadsheets, without the idempotency keys.",
        ),
    ] = ExportFormat.jsonl,
    store: StoreUrl = None,
) -> None:
    """Print the journal: every entry with all of its facts.

    Entries are ordered by account number and entry number. The command reads the journal as of one moment, and other
    programs may use the accounts at the same time. An export in JSON that has no line of totals at its end is not
    complete, and atm import refuses it.

    Example: `atm export > journal.jsonl`
    """
    from atm_adapters.front_ends.cli.journal_lines import csv_lines, json_lines
    from atm_adapters.front_ends.cli.progress import tracked
    from atm_core.account import parse_account_number

    if account is not None:
        parse_account_number(account)
    with opened(store) as portable:
        if not isinstance(portable, PortableStore):
            fail_unable(store, _NO_JOURNAL)

        def count() -> int:
            return portable.count_entries() if account is None else portable.get(account).last_entry

        with closing(portable.export_entries(account)) as entries:
            lines = json_lines if format is ExportFormat.jsonl else csv_lines
            if is_terminal(sys.stdout):
                echo_all(lines(entries))
            else:
                with closing(tracked(entries, "Exporting", count)) as shown:
                    echo_all(lines(shown))


@app.command("import", rich_help_panel=STORES)
def import_(
    file: Annotated[str, typer.Argument(help="The output of atm export, or - for standard input.", metavar="FILE")],
    store: StoreUrl = None,
    as_json: Annotated[
        bool, typer.Option("--json", help='Print {"accounts": ..., "entries": ...}. Errors are JSON, too.')
    ] = False,
) -> None:
    """Fill an empty store with an exported journal: accounts, balances, history, limits and keys.

    Make the store with atm init first. Every entry is checked. Either the whole journal is imported, or nothing is. A
    retry with a key that was used before the export moves no money after the import.

    Example: `atm import journal.jsonl --store accounts.sqlite3`
    """
    from atm_adapters.front_ends.cli.interrupts import import_interruptibly
    from atm_adapters.front_ends.cli.journal_lines import JournalReader, import_report, opened_journal
    from atm_adapters.front_ends.cli.progress import tracked_bytes

    with opened_journal(file) as lines, opened(store) as portable:
        if not isinstance(portable, PortableStore):
            fail_unable(store, "cannot be filled with a journal. Name a file or a database that atm init has made.")
        with tracked_bytes(lines, "Importing") as shown:
            reader = JournalReader(shown, "standard input" if file == "-" else file)
            try:
                import_interruptibly(portable, reader.read(), redact_url(store or default_store_url()))
            except InconsistentJournal as error:  # the reader checks everything but keys
                error.add_note("An earlier entry of the account has the same key. Export the journal again.")
                raise
    echo(import_report(reader.totals, as_json=as_json))


@app.command(rich_help_panel=STORES)
def backup(
    file: Annotated[str, typer.Argument(help="The file to write.", metavar="FILE")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Keep the copy without checking it.")] = False,
    store: StoreUrl = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help='Print {"file": ..., "accounts": ..., "verified": true}. Errors are JSON, too.'),
    ] = False,
) -> None:
    """Copy a SQLite store to a file, while other programs use it.

    The copy is whole, and as of one moment. It is verified, and gets its name when it is on disk. If it has a wrong
    account, the exit code is 1 and no file is written. Use PostgreSQL's own tools for a store in PostgreSQL.

    Example: `atm backup accounts-monday.sqlite3 --store accounts.sqlite3`
    """
    from atm_adapters.front_ends.cli.interrupts import run_interruptibly
    from atm_adapters.front_ends.cli.listing import counted
    from atm_adapters.wire.error_responses import REFUSED
    from atm_adapters.wire.untrusted_text import printable

    if not force and os.path.lexists(file):
        fail(f"There is a file {file} already. Name another one, or replace it with --force.", REFUSED, "file-exists")
    with opened(store) as source:
        if not isinstance(source, BackupStore):
            _fail_to_back_up(store)

        def copy() -> int:
            with source.back_up(file, replace=force) as copied:
                if not no_verify:
                    _verify_copy(copied, file, as_json=as_json)
                return copied.count_accounts()

        count = run_interruptibly(copy)
    if as_json:
        echo(json_text({"file": file, "accounts": count, "verified": not no_verify}))
    else:
        verdict = "The copy was not verified." if no_verify else "Every account matches its journal."
        echo(f"Backed up {counted(count, 'account')} to {printable(file)}. {verdict}")


def _fail_to_back_up(store: str | None) -> NoReturn:
    if store_kind(store or default_store_url()) == "postgresql":
        fail_unable(
            store,
            "is in PostgreSQL, which has its own tools: pg_dump copies one database, pg_basebackup a whole server.",
        )
    fail_unable(store, "is not in a file. Run this command where a SQLite file has the accounts.")


@contextmanager
def _audited(store: AuditableStore, *, as_json: bool) -> Iterator[tuple["Audit", Iterator[str]]]:
    """Yield an audit with a progress bar, and its report, which carries it out."""
    from atm_adapters.front_ends.cli.findings import Audit, audit_document, audit_report
    from atm_adapters.front_ends.cli.progress import tracked

    with closing(store.audit()) as audited, closing(tracked(audited, "Verifying", store.count_accounts)) as shown:
        audit = Audit(shown)
        yield audit, (audit_document if as_json else audit_report)(audit)


def _verify_copy(copied: AuditableStore, file: str, *, as_json: bool) -> None:
    from itertools import chain

    from atm_adapters.front_ends.cli.listing import counted
    from atm_adapters.front_ends.cli.progress import above_bar
    from atm_adapters.wire.error_responses import FAILED

    with _audited(copied, as_json=as_json) as (audit, report):
        first = next(report)  # of a consistent store it is the verdict
        if audit.wrong:
            echo_all(above_bar(chain([first], report)))
    if audit.wrong:
        fail(
            f"The copy has {counted(audit.wrong, 'wrong account')}, so {file} was not written. To keep such a copy, "
            "use --no-verify.",
            FAILED,
            "inconsistent-backup",
        )


@app.command(rich_help_panel=STORES)
def verify(
    store: StoreUrl = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help='Print {"wrong": [...], "accounts": ..., "entries": ...}. Errors are JSON, too.'),
    ] = False,
) -> None:
    """Check that every account matches its journal. Exit with 1 if one does not.

    The check replays all entries, as of one moment. It finds wrong balances and limits, missing, moved and changed
    entries, entries without an account, and keys that occur twice, and prints each wrong account when it is found. It
    changes no account, and other programs may use them during the check. Its memory use does not depend on the number
    of accounts.

    Example: `atm verify`
    """
    from atm_adapters.front_ends.cli.progress import above_bar
    from atm_adapters.wire.error_responses import FAILED

    with opened(store) as auditable:
        if not isinstance(auditable, AuditableStore):
            fail_unable(store, _NO_JOURNAL)
        with _audited(auditable, as_json=as_json) as (audit, report):
            echo_all(above_bar(report))
    if audit.wrong:
        raise typer.Exit(FAILED)
