"""Commands for the access tokens of a server. Only these make and revoke tokens."""

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from atm_adapters.front_ends.cli.app import SERVERS, App, Group, app
from atm_adapters.front_ends.cli.output import echo, echo_all, fail

if TYPE_CHECKING:
    from atm_adapters.front_ends.http.tokens import Verb

token_app = App(name="token", cls=Group, no_args_is_help=True, help="Make, list and revoke access tokens.")
app.add_typer(token_app, rich_help_panel=SERVERS)


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


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!a} is not a date such as 2027-01-31.") from None


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
            help="What it may do: one or more of read, move, manage and monitor, with commas between them.",
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
) -> None:
    """Make a token and print it. It is shown once, because the file has only its SHA-256.

    A running server accepts it within two seconds.

    Example: `atm token add till-1 --may read,move --account 0 --tokens tokens.toml`
    """
    from atm_adapters.front_ends.http.tokens import ALL_ACCOUNTS, TokenEntry, Verb, changed_entries, new_token
    from atm_adapters.wire.error_responses import REFUSED
    from atm_core.account import parse_account_number

    verbs, last_day = _verbs(may), _day(expires)
    if all_accounts == bool(account) and verbs != [Verb.monitor]:
        raise typer.BadParameter("use --account, once or more, or --all-accounts.", param_hint="--account")
    numbers = [parse_account_number(number) for number in account]
    token, token_id, digest = new_token()
    with changed_entries(tokens) as entries:
        if name in entries:
            fail(f"There is a token named {name}. Choose another name, or revoke it first.", REFUSED, "token-exists")
        entries[name] = TokenEntry(
            id=token_id, sha256=digest, may=verbs, accounts=ALL_ACCOUNTS if all_accounts else numbers, expires=last_day
        )
    echo(token)


@token_app.command("list")
def list_(
    tokens: TokensFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each token.")] = False,
) -> None:
    """List the tokens: name, id, verbs, accounts, and the last day. The id is the part of a token that may be shown.

    Example: `atm token list --tokens tokens.toml`
    """
    import msgspec

    from atm_adapters.front_ends.http.tokens import read_entries

    for name, entry in read_entries(tokens).items():
        facts = {"name": name, **msgspec.to_builtins(entry)}
        del facts["sha256"]
        if as_json:
            echo_all([msgspec.json.encode(facts).decode() + "\n"])
        else:
            texts = (",".join(fact) if isinstance(fact, list) else fact or "" for fact in facts.values())
            echo_all(["\t".join(texts) + "\n"])


@token_app.command()
def revoke(name: TokenName, tokens: TokensFile) -> None:
    """Revoke a token. A running server refuses it within two seconds.

    Example: `atm token revoke till-1 --tokens tokens.toml`
    """
    from atm_adapters.front_ends.http.tokens import changed_entries
    from atm_adapters.wire.error_responses import REFUSED

    with changed_entries(tokens) as entries:
        if entries.pop(name, None) is None:
            fail(f"There is no token named {name}. To list them: atm token list", REFUSED, "token-not-found")
    echo(f"Revoked {name}.")
