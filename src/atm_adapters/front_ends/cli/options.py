"""The arguments and options that several commands share."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.main import get_command

from atm_adapters.bootstrap import STORE_URL_HELP
from atm_core.account import ACCOUNT_NUMBER_RULE
from atm_core.transaction import MAX_NOTE_LENGTH

ACCOUNT: Final = "ACCOUNT"
NO_HYPHEN: Final = (
    "An account number that begins with a hyphen cannot be used on the command line. "
    "Use the HTTP API or the library for such an account."
)


def _without_hyphen(account_number: str) -> str:
    if account_number.startswith("-"):
        raise typer.BadParameter(f"{account_number!a} is not an option of this command. {NO_HYPHEN}")
    return account_number


def _key_or_random(key: str | None) -> str:
    if key is not None:
        return key
    from uuid import uuid4

    return uuid4().hex


def _limit(limit: str | None) -> str | None:
    if limit is None:
        raise typer.BadParameter(
            "it is missing. The command replaces both limits, so give both: an amount, or none for unlimited."
        )
    return None if limit.lower() == "none" else limit


AccountNumber = Annotated[
    str,
    typer.Argument(
        help=f"{ACCOUNT_NUMBER_RULE}. The first is not a hyphen.",
        metavar=ACCOUNT,
        callback=_without_hyphen,
        show_default=False,
    ),
]
Amount = Annotated[
    str,
    typer.Argument(help="In the currency's major unit, such as 100 or 10.25.", metavar="AMOUNT", show_default=False),
]
OverdraftLimit = Annotated[
    str | None,
    typer.Option(
        help="How far below zero a withdrawal may bring the balance, or none for unlimited.",
        metavar="AMOUNT",
        callback=_limit,
    ),
]
WithdrawalLimit = Annotated[
    str | None,
    typer.Option(
        help="The most that one withdrawal may take, or none for unlimited.", metavar="AMOUNT", callback=_limit
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        help="Idempotency key. Repeating the command with the same key changes nothing. The default is a random key.",
        metavar="KEY",
        callback=_key_or_random,
    ),
]
Note = Annotated[
    str | None,
    typer.Option(help=f"A text of at most {MAX_NOTE_LENGTH} characters for the account's history.", metavar="NOTE"),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="ATM_STORE",
        metavar="URL",
        help=f"Where the accounts are: {STORE_URL_HELP}. The default is a SQLite file in your user data folder.",
        show_default=False,
    ),
]


def _use_token_of(file: str | None) -> None:
    if file is None:
        return
    try:
        token = Path(file).read_text("ascii").strip()
    except (OSError, ValueError) as error:  # ValueError also for a NUL in the name
        reason = getattr(error, "strerror", None) or "It is not the text that atm token add prints"
        raise typer.BadParameter(f"{file!a} cannot be read: {reason}.") from None
    if not token:
        raise typer.BadParameter(f"{file!a} is empty. It must contain an access token, as atm token add prints it.")
    os.environ["ATM_TOKEN"] = token  # not an argument, which other users could see in the list of processes


_declaration = typer.Typer(add_completion=False)


@_declaration.command()
def _with_token(
    token_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A file with the access token for a server. The default is the variable ATM_TOKEN.",
            callback=_use_token_of,
            expose_value=False,
        ),
    ] = None,
) -> None:
    """Declare an option for every command that may use a server."""


TOKEN_FILE: Final = get_command(_declaration).params[0]
