"""The ``atm`` application: how commands are parsed, how they open stores, and how they end."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from errno import ENOSPC
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from atm_adapters.bootstrap import default_store_url, open_store, redact_url, store_option
from atm_adapters.front_ends.cli.options import ACCOUNT, NO_HYPHEN, TOKEN_FILE
from atm_adapters.front_ends.cli.output import (
    discard_output,
    echo,
    fail,
    failures_reported,
    prepare_output,
    print_failure,
)
from atm_core import AccountNotFound
from atm_core.ports import Store

MONEY, STORES, SERVERS = "Accounts and money", "Stores", "Servers"  # panels of commands in the help

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])


class _WithoutTypes:
    """Leaves out Typer's type notation in the help and the usage line: <bool>, <str>, {ACCOUNT}."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        if any(param.metavar == "URL" for param in params):  # names a store, which may be a server, or a server
            params.insert(-1, TOKEN_FILE)  # before --help
        for param in params:
            if isinstance(param, TyperArgument):
                param.display_type_rich = lambda **_: ""  # type: ignore[method-assign]
            elif param.is_flag:
                param.metavar = ""
        return params

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]  # type: ignore[misc]


class Group(_WithoutTypes, TyperGroup):
    """A group of commands, whose wrong usage is reported as JSON with ``--json``."""

    def invoke(self, ctx: Any) -> Any:
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:  # wrong usage
            if not as_json:
                raise
            print_failure(error.format_message(), "wrong-usage", as_json=True)
            raise typer.Exit(error.exit_code) from None


class _Command(_WithoutTypes, TyperCommand):
    def make_parser(self, ctx: Any) -> Any:
        parser = super().make_parser(ctx)
        # As a short option, -h would also be found in the amount "-5h".
        parser._long_opt["-h"] = parser._short_opt.pop("-h")
        return parser

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # A script that passes --help as an account number must not take the help for a completed transaction.
        if any(param.metavar == ACCOUNT for param in self.params):
            for option in set(args[:-1]) & set(ctx.help_option_names):
                ctx.fail(f"{option} must be the last argument. {NO_HYPHEN}")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with failures_reported(as_json=ctx.params.get("as_json", False), key=ctx.params.get("key")):
            return super().invoke(ctx)


class App(typer.Typer):
    """An application whose commands report failures."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        prepare_output()
        try:
            return super().__call__(*args, **kwargs)
        except OSError as error:
            if error.errno != ENOSPC:
                raise
            discard_output()
            message = f"The output could not be written: {error.strerror}."
            print_failure(message, "output-failed", as_json="--json" in sys.argv)
            sys.exit(1)

    def command(self, name: str | None = None, **options: Any) -> Callable[[_CommandT], _CommandT]:
        return super().command(name, cls=_Command, **options)


app = App(
    name="atm",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""
Examples:

- `atm balance 0`
- `atm deposit 0 100`
- `atm withdraw 0 50.25 --key order-1234`
- `atm open 42 --overdraft-limit 0`
- `atm history 0`
- `atm init --store accounts.sqlite3`
- `atm accounts`
- `atm backup accounts-monday.sqlite3`
- `atm serve`
- `atm check http://127.0.0.1:8000`

Exit codes:

- 0: done
- 1: a check failed, or the output could not be written
- 2: wrong usage, or an invalid amount, account number, key, note or journal
- 3: refused, and nothing was changed: unknown or closed account, insufficient funds, limit exceeded, key reused,
  store not empty, file exists, ...
- 4: the store or the server is unavailable, or the store needs `atm init`, and nothing was changed
- 5: the outcome is unknown, so money may have moved: the message says what to do
- 6: the server refused the access token, and nothing was changed
- 130: interrupted, and nothing was changed

With `--json`, errors are JSON, too: one object on standard error. Its member `error` has a `code`, a sentence for
people as `detail`, and the facts of the error. Sums in it are strings.
""",
)


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
def opened(url: str | None) -> Iterator[Store]:
    """Open the store for one command."""
    with closing(open_store(url)) as store:
        try:
            yield store
        except AccountNotFound as error:
            error.add_note(f"To list the accounts: atm accounts{store_option(url)}")
            raise


@contextmanager
def opened_for_change(url: str | None) -> Iterator[Store]:
    """Open the store for one change, whose interruption is reported to the user as an unknown outcome."""
    from atm_adapters.front_ends.cli.interrupts import InterruptibleStore

    with opened(url) as store:
        yield InterruptibleStore(store, redact_url(url or default_store_url()))


def fail_unable(url: str | None, reason: str) -> NoReturn:
    """Exit because this kind of store cannot do what the command needs."""
    fail(f"The store {redact_url(url or default_store_url())} {reason}", 2, "not-supported")
