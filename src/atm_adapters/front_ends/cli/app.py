"""The ``atm`` application, and what all commands share: arguments, error messages and output."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from errno import ENOSPC
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from atm_adapters.bootstrap import STORE_URL_HELP, default_store_url, open_store, redact_url
from atm_core import AccountNotFound, AtmError
from atm_core.account import ACCOUNT_NUMBER_RULE
from atm_core.ports import Store

MONEY, STORES, SERVERS = "Accounts and money", "Stores", "Servers"  # panels of commands in the help


_ACCOUNT: Final = "ACCOUNT"
_NO_HYPHEN: Final = (
    "An account number that begins with a hyphen cannot be used on the command line. "
    "Use the HTTP API or the library for such an account."
)

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])


class _WithoutTypes:
    """Leaves out Typer's type notation in the help and the usage line: <bool>, <str>, {ACCOUNT}."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if isinstance(param, TyperArgument):
                param.display_type_rich = lambda **_: ""  # type: ignore[method-assign]
            elif param.is_flag:
                param.metavar = ""
        return params

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]  # type: ignore[misc]


class _Group(_WithoutTypes, TyperGroup):
    pass


class _Command(_WithoutTypes, TyperCommand):
    def make_parser(self, ctx: Any) -> Any:
        parser = super().make_parser(ctx)
        # As a short option, -h would also be found in the amount "-5h".
        parser._long_opt["-h"] = parser._short_opt.pop("-h")
        return parser

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # A script that passes --help as an account number must not take the help for a completed transaction.
        if any(param.metavar == _ACCOUNT for param in self.params):
            for option in set(args[:-1]) & set(ctx.help_option_names):
                ctx.fail(f"{option} must be the last argument. {_NO_HYPHEN}")
        return super().parse_args(ctx, args)


class _App(typer.Typer):
    def __call__(self, *args: object, **kwargs: object) -> object:
        try:
            return super().__call__(*args, **kwargs)
        except OSError as error:
            if error.errno != ENOSPC:
                raise
            typer.echo(f"atm: The output could not be written: {error.strerror}.", err=True)
            sys.exit(1)

    def command(self, name: str | None = None, **options: Any) -> Callable[[_CommandT], _CommandT]:
        return super().command(name, cls=_Command, **options)


app = _App(
    name="atm",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""
Examples:

- `atm balance 0`
- `atm deposit 0 100`
- `atm withdraw 0 50.25 --key order-1234`
- `atm accounts`
- `atm serve`
- `atm check http://127.0.0.1:8000`

Exit codes:

- 0: done
- 1: a check failed, or the output could not be written
- 2: wrong usage, or an invalid amount or account number
- 3: refused: unknown account, account exists already, idempotency key reused, balance out of range
- 4: the store or the server is unavailable, or the outcome is unknown: the message says what to do
- 130: interrupted before the store was called
""",
)


def _without_hyphen(account_number: str) -> str:
    if account_number.startswith("-"):
        raise typer.BadParameter(f"{account_number!a} is not an option of this command. {_NO_HYPHEN}")
    return account_number


AccountNumber = Annotated[
    str,
    typer.Argument(
        help=f"{ACCOUNT_NUMBER_RULE}. The first is not a hyphen.",
        metavar=_ACCOUNT,
        callback=_without_hyphen,
        show_default=False,
    ),
]
Amount = Annotated[
    str,
    typer.Argument(help="In the currency's major unit, such as 100 or 10.25.", metavar="AMOUNT", show_default=False),
]
Key = Annotated[
    str | None,
    typer.Option(
        help="Idempotency key. Repeating the command with the same key moves no money. The default is a random key.",
        metavar="KEY",
    ),
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


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        echo(f"atm {version('mini-atm')}")
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep account balances, exact to the cent: read, deposit, withdraw."""


@contextmanager
def opened(url: str | None, *, must_exist: bool = False) -> Iterator[Store]:
    """Open the store for one command, and report errors to the user."""
    with errors_reported(), closing(open_store(url, must_exist=must_exist)) as store:
        try:
            yield store
        except AccountNotFound as error:
            error.add_note(f"To list the accounts: atm accounts{_store_option(url)}")
            raise


@contextmanager
def opened_for_change(url: str | None) -> Iterator[Store]:
    """Open the store for one change, whose interruption is reported to the user as an unknown outcome."""
    from atm_adapters.front_ends.cli.interrupts import InterruptibleStore

    with opened(url) as store:
        yield InterruptibleStore(store, redact_url(url or default_store_url()))


@contextmanager
def errors_reported() -> Iterator[None]:
    """Print an ``AtmError`` to standard error, and exit with its exit code."""
    try:
        yield
    except AtmError as error:
        from atm_adapters.wire.error_responses import response_for

        fail(" ".join([str(error), *getattr(error, "__notes__", ())]), response_for(error).exit_code)


def fail(message: str, exit_code: int) -> NoReturn:
    """Print a message to standard error, and exit.

    :param message: may contain text from a server or a store, so characters that are not printable are escaped.
    """
    from atm_adapters.wire.untrusted_text import printable

    typer.echo(f"atm: {printable(message)}", err=True)
    raise typer.Exit(exit_code) from None


def fail_unable(url: str | None, reason: str) -> NoReturn:
    """Exit because this kind of store cannot do what the command needs."""
    fail(f"The store {redact_url(url or default_store_url())} {reason}", 2)


def echo(result: str) -> None:
    """Print the result of a command that may have moved money."""
    try:
        typer.echo(result)
    except OSError as error:  # a full disk or a closed pipe must not hide that the money moved
        fail(f"Done ({result}), but the result could not be printed: {error.strerror}.", 1)


def echo_all(texts: Iterable[str]) -> None:
    """Print texts that contain their own line ends."""
    for text in texts:
        typer.echo(text, nl=False)


def _store_option(url: str | None) -> str:
    """Return the option that names the same store in another command, without its password."""
    if url is None or url == os.environ.get("ATM_STORE"):
        return ""
    from shlex import quote

    return f" --store {quote(redact_url(url))}"
