"""The command that checks a server."""

from typing import Annotated

import typer

from atm_adapters.bootstrap import access_token
from atm_adapters.front_ends.cli.app import SERVERS, app
from atm_adapters.front_ends.cli.output import echo, fail


@app.command(rich_help_panel=SERVERS)
def check(
    url: Annotated[
        str, typer.Argument(help="The server, such as http://127.0.0.1:8000.", metavar="URL", show_default=False)
    ],
    account: Annotated[
        list[str],
        typer.Option(
            metavar="ACCOUNT",
            help="An account to use. Two are needed, so give this option twice. For a server on this machine, the "
            "default is 0 and 1.",
        ),
    ] = [],  # noqa: B006 - Typer's convention; the list is not changed
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one object: server, accounts (each with account_number, found and left), passed, "
            "failed, not_supported, notes, and checks (each with name, outcome, sent, received, expected and reason). "
            "Errors are JSON, too.",
        ),
    ] = False,
) -> None:
    """Test any server that implements this API.

    The check deposits to two of the server's accounts and withdraws from them, with hostile amounts and with many
    clients at once. Then it restores their balances, but all entries stay in the journal for ever. So use accounts that
    were opened for tests, not accounts of production. Other clients must not use them during the check.
    For a server that requires access tokens, set `ATM_TOKEN` to one that may read and move on both accounts. Without
    the verb manage and all accounts, the checks that open an account are not supported.
    The exit code is 1 if a check failed, 3 if the accounts cannot be used, and 4 if the server does not answer.

    Example: `atm check http://127.0.0.1:8000 --account 0 --account 1`
    """
    from atm_adapters.conformance.http_api.report import as_table, running, to_json
    from atm_adapters.conformance.http_api.run import AccountsUnusable, ServerUnreachable, check_api, valid_url
    from atm_adapters.wire.error_responses import FAILED, REFUSED, UNAVAILABLE
    from atm_core.account import parse_account_number

    try:
        valid_url(url)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint="URL") from None
    token = _valid_token()
    account = account or _default_accounts(url)
    if len(account) != 2 or account[0] == account[1]:
        raise typer.BadParameter(
            "two different accounts are needed, such as --account 0 --account 1.", param_hint="--account"
        )
    numbers = [parse_account_number(number) for number in account]
    try:
        with running() as (say, step):
            report = check_api(url, numbers, token=token, say=say, step=step)
    except ServerUnreachable as error:
        fail(str(error), UNAVAILABLE, "server-unreachable")
    except AccountsUnusable as error:
        fail(str(error), REFUSED, "accounts-unusable")
    echo(to_json(report) if as_json else as_table(report))
    if report.failed:
        raise typer.Exit(FAILED)


def _valid_token() -> str | None:
    from atm_adapters.wire.bearer import authorization

    token = access_token()
    try:
        authorization(token)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint="ATM_TOKEN") from None
    return token


def _default_accounts(url: str) -> list[str]:
    from urllib.parse import urlsplit

    from atm_adapters.wire.loopback import is_loopback

    if not is_loopback(urlsplit(url).hostname or ""):
        raise typer.BadParameter(
            "it is missing. The server is not on this machine, and the check leaves entries in the journal for ever. "
            "Name two accounts that were opened for tests, such as --account test-1 --account test-2.",
            param_hint="--account",
        )
    return ["0", "1"]
