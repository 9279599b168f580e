"""Commands for the access tokens of a server. Only these make and revoke tokens."""

import sys
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from atm_adapters.front_ends.cli.app import SERVERS, App, Group, app
from atm_adapters.front_ends.cli.output import echo, echo_all, fail, is_terminal, json_text

if TYPE_CHECKING:
    from atm_adapters.front_ends.http.tokens import TokenEntry, Verb

token_app = App(name="token", cls=Group, no_args_is_help=True, help="Make, list and revoke access tokens.")
app.add_typer(token_app, rich_help_panel=SERVERS)

_COLUMNS = {"Name": "<", "Id": "<", "May": "<", "Accounts": "<", "Last day": "<", "Status": "<"}


def _name(name: str) -> str:
    import re

    from atm_adapters.front_ends.http.tokens import NAME_PATTERN, NAME_RULE

    if re.fullmatch(NAME_PATTERN, name, re.ASCII) is None:
        raise typer.BadParameter(f"{name!a} is not a name of {NAME_RULE}.")
    return name


def _verbs(may: str) -> "list[Verb]":
    from atm_adapters.front_ends.http.tokens import Verb

    try:
        return sorted({Verb(verb.strip()) for verb in may.split(",")}, key=list(Verb).index)
    except ValueError:
        allowed = ", ".join(Verb)
        raise typer.BadParameter(
            f"{may!a} is not a list of verbs. Use one or more of {allowed}, such as read,move.", param_hint="--may"
        ) from None


def _accounts(numbers: list[str], *, are_all: bool, are_needed: bool) -> Any:
    from atm_adapters.front_ends.http.tokens import ALL_ACCOUNTS
    from atm_core.account import parse_account_number

    if are_all and numbers:
        raise typer.BadParameter("--all-accounts includes every account. Use one of the two.", param_hint="--account")
    if are_needed and not are_all and not numbers:
        raise typer.BadParameter(
            "it is missing. Name each account that the token may use, or use --all-accounts.", param_hint="--account"
        )
    return ALL_ACCOUNTS if are_all else list(dict.fromkeys(map(parse_account_number, numbers)))


def _last_day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!a} is not a date such as 2027-01-31.", param_hint="--expires") from None
    if day < _today():
        raise typer.BadParameter(
            f"{day} has passed. Use {_today()}, which is today in UTC, or a later day.", param_hint="--expires"
        )
    return day


def _today() -> date:
    return datetime.now(UTC).date()


TokensFile = Annotated[
    str,
    typer.Option(
        "--tokens", envvar="ATM_TOKENS_FILE", metavar="FILE", help="The file that lists the tokens.", show_default=False
    ),
]
TokenName = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of the token.", callback=_name, show_default=False)
]


@token_app.command()
def add(
    name: TokenName,
    tokens: TokensFile,
    may: Annotated[
        str,
        typer.Option(
            metavar="VERBS",
            help="Its verbs: one or more of read, move, manage and monitor, with commas between them.",
            show_default=False,
        ),
    ],
    account: Annotated[list[str], typer.Option(metavar="ACCOUNT", help="An account that it may use. Repeatable.")] = [],  # noqa: B006 - Typer's convention; the list is not changed
    all_accounts: Annotated[
        bool, typer.Option("--all-accounts", help="Let it use every account. Opening an account needs this.")
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="The last day on which it is valid, in UTC. The default is no end."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help='Print {"name": ..., "id": ..., "token": ...}. Errors are JSON, too.')
    ] = False,
) -> None:
    """Make a token and print it. It is shown once, because the file has only its SHA-256.

    A running server accepts it within two seconds. The file is created if it does not exist, readable by its owner
    only.

    - read: balance, facts and history of an account
    - move: deposit and withdraw
    - manage: open accounts, set their limits, close and reopen them
    - monitor: metrics, and the details of `/health/ready`. No account is needed for it.

    Example: `atm token add till-1 --may read,move --account 0 --tokens tokens.toml`
    """
    from atm_adapters.front_ends.http.tokens import TokenEntry, Verb, changed_entries, new_token
    from atm_adapters.wire.error_responses import FAILED, REFUSED

    verbs, last_day = _verbs(may), _last_day(expires)
    accounts = _accounts(account, are_all=all_accounts, are_needed=verbs != [Verb.monitor])
    if sys.stdout is None:
        fail("Standard output is closed, so the token could not be shown. None was made.", FAILED, "output-failed")
    token, token_id, digest = new_token()
    with changed_entries(tokens) as entries:
        if name in entries:
            fail(
                f"There is a token named {name} in {tokens} already. Choose another name, or revoke it first.",
                REFUSED,
                "token-exists",
            )
        entries[name] = TokenEntry(id=token_id, sha256=digest, may=verbs, accounts=accounts, expires=last_day)
    result = json_text({"name": name, "id": token_id, "token": token}) if as_json else token
    echo(result, if_lost=f"The token {name} was made, but it could not be printed. Revoke it, and make another one")


@token_app.command("list")
def list_(
    tokens: TokensFile,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help='Print {"tokens": [...]}, each with name, id, may, accounts, expires and expired. '
            "Errors are JSON, too.",
        ),
    ] = False,
) -> None:
    """List the tokens. The id is the part of a token that may be shown.

    In a terminal, print a table. Otherwise print one line for each token, with tabs between its name, id, verbs,
    accounts, last day, and "valid" or "expired".

    Example: `atm token list --tokens tokens.toml`
    """
    from atm_adapters.front_ends.cli.listing import aligned
    from atm_adapters.front_ends.http.tokens import read_entries

    facts = [_facts(name, entry) for name, entry in read_entries(tokens).items()]
    if as_json:
        echo(json_text({"tokens": facts}))
    elif is_terminal(sys.stdout):
        echo_all(aligned([tuple(_COLUMNS), *map(_columns, facts)], _COLUMNS.values()))
    else:
        echo_all("\t".join(_columns(each)) + "\n" for each in facts)


@token_app.command()
def revoke(
    name: TokenName,
    tokens: TokensFile,
    as_json: Annotated[
        bool, typer.Option("--json", help='Print {"name": ..., "id": ...}. Errors are JSON, too.')
    ] = False,
) -> None:
    """Revoke a token. A running server refuses it within two seconds.

    Example: `atm token revoke till-1 --tokens tokens.toml`
    """
    from atm_adapters.front_ends.http.tokens import changed_entries

    with changed_entries(tokens) as entries:
        entry = entries.pop(name, None) or _fail_unknown(name, tokens)
    echo(json_text({"name": name, "id": entry.id}) if as_json else f"Revoked {name}.")


def _fail_unknown(name: str, tokens: str) -> NoReturn:
    from atm_adapters.wire.error_responses import REFUSED

    message = f"There is no token named {name} in {tokens}. To list those that exist: atm token list"
    fail(message, REFUSED, "token-not-found")


def _facts(name: str, entry: "TokenEntry") -> dict[str, Any]:
    return {
        "name": name,
        "id": entry.id,
        "may": entry.may,
        "accounts": entry.accounts,
        "expires": entry.expires,
        "expired": entry.expires is not None and entry.expires < _today(),
    }


def _columns(facts: dict[str, Any]) -> tuple[str, ...]:
    status = "expired" if facts["expired"] else "valid"
    texts = [",".join(fact) if isinstance(fact, list) else str(fact or "") for fact in facts.values()]
    return (*texts[:-1], status)
