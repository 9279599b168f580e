"""Commands for accounts and money. Each parses its arguments, calls a use case, and prints the result."""

import sys
from typing import Annotated

import typer

from atm_adapters.bootstrap import store_option
from atm_adapters.front_ends.cli.app import MONEY, app, opened, opened_for_change
from atm_adapters.front_ends.cli.options import (
    AccountNumber,
    Amount,
    Key,
    Note,
    OverdraftLimit,
    StoreUrl,
    WithdrawalLimit,
)
from atm_adapters.front_ends.cli.output import echo, echo_all, echo_in_pager, is_terminal
from atm_core import Account, use_cases

AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, with the names of the HTTP API. Errors are JSON, too.")
]

_ACCEPT_NEGATIVE_NUMBERS = {"ignore_unknown_options": True}  # otherwise "-5" is answered with "No such option: -5"


@app.command(rich_help_panel=MONEY)
def balance(account_number: AccountNumber, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Print the balance of an account.

    Example: `atm balance 0`
    """
    with opened(store) as accounts:
        account = use_cases.get_account(accounts, account_number)
    if as_json:
        from atm_adapters.wire.exact_json import encode_balance

        echo(encode_balance(account).decode())
    else:
        echo(str(account.balance))


@app.command(rich_help_panel=MONEY, context_settings=_ACCEPT_NEGATIVE_NUMBERS)
def deposit(
    account_number: AccountNumber,
    amount: Amount,
    key: Key = None,
    note: Note = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Deposit an amount, and print the new balance.

    Example: `atm deposit 0 100 --key salary-2026-11`
    """
    with opened_for_change(store) as accounts:
        _print_balance(use_cases.deposit(accounts, account_number, amount, key, note), as_json=as_json)


@app.command(rich_help_panel=MONEY, context_settings=_ACCEPT_NEGATIVE_NUMBERS)
def withdraw(
    account_number: AccountNumber,
    amount: Amount,
    key: Key = None,
    note: Note = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw an amount, and print the new balance.

    Without an overdraft limit, the balance may become negative.

    Example: `atm withdraw 0 50.25 --note "order 1234"`
    """
    with opened_for_change(store) as accounts:
        _print_balance(use_cases.withdraw(accounts, account_number, amount, key, note), as_json=as_json)


@app.command(rich_help_panel=MONEY)
def show(account_number: AccountNumber, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Print everything about an account.

    The available amount is what can be withdrawn now in all.

    Example: `atm show 0`
    """
    from atm_adapters.front_ends.cli.listing import account_table
    from atm_adapters.wire.exact_json import encode_account

    with opened(store) as accounts:
        account = use_cases.get_account(accounts, account_number)
    echo(encode_account(account).decode() if as_json else account_table(account))


@app.command(rich_help_panel=MONEY)
def history(
    account_number: AccountNumber,
    limit: Annotated[int, typer.Option(help="The largest number of entries, 1 to 1000.", metavar="N")] = 50,
    before: Annotated[int | None, typer.Option(help="Print entries before this one.", metavar="ENTRY")] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Print the history of an account, the newest entry first.

    In a terminal, print a table, in a pager if it is long. Otherwise print one line for each entry, with tabs between
    its number, time, kind, amount, balance and note. The amount of a withdrawal is negative. If the entry set limits,
    they stand before the note.

    Example: `atm history 0 --limit 10`
    """
    from atm_adapters.front_ends.cli import listing

    with opened(store) as accounts:
        page = use_cases.read_history(accounts, account_number, before=before, limit=limit)
    if as_json:
        echo_all(listing.history_json(account_number, page, limit))
    elif is_terminal(sys.stdout):
        older = f"atm history {account_number} --limit {limit}{store_option(store)}"
        echo_in_pager(listing.history_table(page, older))
    else:
        echo_all(listing.history_tsv(page))


@app.command("open", rich_help_panel=MONEY)
def open_account(
    account_number: AccountNumber,
    balance: Annotated[str, typer.Option(help="The opening balance. It may be negative.", metavar="AMOUNT")] = "0",
    overdraft_limit: OverdraftLimit = "none",
    withdrawal_limit: WithdrawalLimit = "none",
    key: Key = None,
    note: Note = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Open an account, and print its balance.

    Example: `atm open 42 --balance 5 --overdraft-limit 0 --withdrawal-limit 400`
    """
    with opened_for_change(store) as accounts:
        account = use_cases.open_account(
            accounts, account_number, balance, overdraft_limit, withdrawal_limit, key, note
        )
        _print_balance(account, as_json=as_json)


@app.command(rich_help_panel=MONEY)
def limits(
    account_number: AccountNumber,
    overdraft_limit: OverdraftLimit = None,
    withdrawal_limit: WithdrawalLimit = None,
    key: Key = None,
    note: Note = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Replace both limits of an account, and print the account.

    Both options are required. Limits apply to later withdrawals, and may be lower than what is used already.

    Example: `atm limits 42 --overdraft-limit 500 --withdrawal-limit none`
    """
    with opened_for_change(store) as accounts:
        account = use_cases.set_limits(accounts, account_number, overdraft_limit, withdrawal_limit, key, note)
        _print_account(account, as_json=as_json)


@app.command(rich_help_panel=MONEY)
def close(
    account_number: AccountNumber, key: Key = None, note: Note = None, store: StoreUrl = None, as_json: AsJson = False
) -> None:
    """Close an account whose balance is zero, and print the account.

    Its number is not free again, and its history can still be read.

    Example: `atm close 42 --note "customer left"`
    """
    with opened_for_change(store) as accounts:
        _print_account(use_cases.close_account(accounts, account_number, key, note), as_json=as_json)


@app.command(rich_help_panel=MONEY)
def reopen(
    account_number: AccountNumber, key: Key = None, note: Note = None, store: StoreUrl = None, as_json: AsJson = False
) -> None:
    """Open a closed account again, and print the account.

    Its limits are those that it had.

    Example: `atm reopen 42`
    """
    with opened_for_change(store) as accounts:
        _print_account(use_cases.reopen_account(accounts, account_number, key, note), as_json=as_json)


def _print_balance(account: Account, *, as_json: bool) -> None:
    """Print an account after a change: its balance, in JSON with the number of the new entry."""
    result = str(account.balance)
    if as_json:
        from atm_adapters.wire.exact_json import encode_receipt

        result = encode_receipt(account).decode()
    echo(result)


def _print_account(account: Account, *, as_json: bool) -> None:
    """Print an account after a change: all facts, in JSON with the number of the new entry."""
    from atm_adapters.front_ends.cli.listing import account_table
    from atm_adapters.wire.exact_json import encode_complete_account

    echo(encode_complete_account(account).decode() if as_json else account_table(account))
