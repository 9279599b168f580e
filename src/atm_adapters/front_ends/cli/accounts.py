"""Commands for accounts and money. Each parses its arguments, calls a use case, and prints the result."""

from typing import Annotated

import typer

from atm_adapters.front_ends.cli.app import (
    MONEY,
    AccountNumber,
    Amount,
    Key,
    StoreUrl,
    app,
    echo,
    opened,
    opened_for_change,
)
from atm_core import Account, use_cases

AsJson = Annotated[bool, typer.Option("--json", help='Print {"account_number": ..., "balance": ...}.')]

_ACCEPT_NEGATIVE_NUMBERS = {"ignore_unknown_options": True}  # otherwise "-5" is answered with "No such option: -5"


@app.command(rich_help_panel=MONEY)
def balance(account_number: AccountNumber, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Print the balance of an account.

    Example: `atm balance 0`
    """
    with opened(store) as accounts:
        _print(use_cases.get_account(accounts, account_number), as_json=as_json)


@app.command(rich_help_panel=MONEY, context_settings=_ACCEPT_NEGATIVE_NUMBERS)
def deposit(
    account_number: AccountNumber, amount: Amount, key: Key = None, store: StoreUrl = None, as_json: AsJson = False
) -> None:
    """Deposit an amount, and print the new balance.

    Example: `atm deposit 0 100 --key salary-2026-11`
    """
    with opened_for_change(store) as accounts:
        _print(use_cases.deposit(accounts, account_number, amount, key), as_json=as_json)


@app.command(rich_help_panel=MONEY, context_settings=_ACCEPT_NEGATIVE_NUMBERS)
def withdraw(
    account_number: AccountNumber, amount: Amount, key: Key = None, store: StoreUrl = None, as_json: AsJson = False
) -> None:
    """Withdraw an amount, and print the new balance. The balance may become negative.

    Example: `atm withdraw 0 50.25`
    """
    with opened_for_change(store) as accounts:
        _print(use_cases.withdraw(accounts, account_number, amount, key), as_json=as_json)


@app.command("open", rich_help_panel=MONEY)
def open_account(
    account_number: AccountNumber,
    balance: Annotated[str, typer.Option(help="The opening balance. It may be negative.", metavar="AMOUNT")] = "0",
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Open an account, and print its balance.

    Example: `atm open 42 --balance 5`
    """
    with opened_for_change(store) as accounts:
        _print(use_cases.open_account(accounts, account_number, balance), as_json=as_json)


def _print(account: Account, *, as_json: bool) -> None:
    result = str(account.balance)
    if as_json:
        from atm_adapters.wire.exact_json import encode_account

        result = encode_account(account).decode()
    echo(result)
