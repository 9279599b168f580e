"""The checks, one after the other, and the accounts put back."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from atm_adapters.api_check.account import AccountUnderCheck, Call
from atm_adapters.api_check.checks import CHECKS, Check
from atm_adapters.api_check.client import Api, Exchange, Failed, NotSupported
from atm_adapters.api_check.movements import LARGEST_SENT
from atm_adapters.api_check.server import Server, read_announced
from atm_adapters.stores import without_password

Outcome: TypeAlias = Literal["passed", "failed", "not supported"]

ABOUT_REQUESTS: Final = 900  # that a whole run sends, to say beforehand
_FARTHEST_FROM_ZERO: Final = Decimal(1_000_000_000_000)  # leaves room for the largest amounts that are sent
_WATCHES: Final = 3
_WATCH_SECONDS: Final = 0.1
_TRIES_TO_PUT_BACK: Final = 4
_CENT: Final = Decimal("0.01")
_WIDE: Final = Context(prec=100)  # whatever balances a server answers, their difference is exact


class ServerUnreachable(Exception):
    """The server does not answer at all, so there is nothing to check."""


class AccountsUnusable(Exception):
    """The accounts don't exist, are used by somebody, or hold too much; nothing was moved."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a check. The three texts are there if it failed, the reason if it is not supported."""

    name: str
    outcome: Outcome
    sent: str | None = None
    received: str | None = None
    expected: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AccountLeft:
    """An account, the balance that was found, and the one that was left; None if it could not be read."""

    account_number: str
    found: Decimal | None
    left: Decimal | None


@dataclass(frozen=True, slots=True)
class Report:
    """What came of all checks."""

    server: str
    accounts: list[AccountLeft]
    passed: int
    failed: int
    not_supported: int
    notes: list[str]
    checks: list[Result]


def valid_url(url: str) -> str:
    """Return the URL that was given.

    :raises ValueError: unless it is ``http://`` or ``https://`` with a host, and without a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right or parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{without_password(url)!a} is not where a server is: write it like http://127.0.0.1:8000")
    return url


def check_api(
    url: str, account_numbers: Sequence[str], *, say: Callable[[str], None], step: Callable[[str], None]
) -> Report:
    """Check the server at a URL, and put two accounts of it back as they were found.

    On Ctrl-C too the accounts are put back, before KeyboardInterrupt is raised.

    :param say: is told, a sentence or more at a time, what will be done and how the accounts were left.
    :param step: is told the name of each check before it runs.
    :raises ValueError: if the URL is ill-formed, as :func:`valid_url` says.
    :raises ServerUnreachable: if nothing answers there.
    :raises AccountsUnusable: if there are no such accounts, or they can't be used.
    """
    return asyncio.run(_check(valid_url(url), account_numbers, say, step))


async def _check(
    url: str, account_numbers: Sequence[str], say: Callable[[str], None], step: Callable[[str], None]
) -> Report:
    shown = without_password(url)
    async with Api(url) as api:
        first, second = (AccountUnderCheck(api, number) for number in account_numbers)
        found = []
        for account in (first, second):
            read = await account.read()
            if read.status is None:
                raise ServerUnreachable(f"{shown} can't be checked: {read.trouble}.")
            if read.status == 404:
                raise AccountsUnusable(
                    f"{shown} answers 404 to {read.sent}: name two accounts that exist with --account, "
                    "or another URL if its API is elsewhere."
                )
            try:
                found.append(read.balance(account.number))
            except Failed as failure:
                unreadable = [AccountLeft(number, None, None) for number in account_numbers]
                result = Result(CHECKS[0].name, "failed", failure.sent, failure.received, failure.expected)
                notes = ["Nothing else was checked and nothing was moved: without balances nothing can be judged."]
                say(notes[0])
                return _report(shown, unreadable, notes, [result])
        await _require_rest(first, second, found)

        say(_plan(shown, first, second, found))
        run = _Run(Server(api, first, second, await read_announced(api)), found, say, step)
        try:
            await run.all_checks()
        finally:
            await run.end()
        return _report(shown, run.left, run.notes, run.results)


class _Run:
    """A run under way: what came of it so far, and the balances to put back."""

    def __init__(
        self, server: Server, found: Sequence[Decimal], say: Callable[[str], None], step: Callable[[str], None]
    ) -> None:
        self.results: list[Result] = []
        self.notes: list[str] = []
        self.left: list[AccountLeft] = []
        self._server = server
        self._accounts = (server.first, server.second)
        self._found = found
        self._say = say
        self._step = step

    async def all_checks(self) -> None:
        """Run one check after the other, each from the balances that the one before it left."""
        before: list[Decimal | None] = list(self._found)
        for number, check in enumerate(CHECKS, start=1):
            self._step(check.name)
            for account in self._accounts:
                account.is_touched = False
            self.results.append(await _result(check, self._server))
            reads = [await account.read() for account in self._accounts]
            if all(read.status is None for read in reads):
                self._note(f"The server answers no more, so {len(CHECKS) - number} checks were not made.")
                return
            after = [_balance(account, read) for account, read in zip(self._accounts, reads, strict=True)]
            for account, was, now in zip(self._accounts, before, after, strict=True):
                if was != now and not account.is_touched:
                    self._note(
                        f"Account {account.number} went from {was} to {now} while {check.name!r} was checked, and "
                        "nothing was sent to it. If somebody else used it, check again with accounts that nobody uses."
                    )
            before = after

    async def end(self) -> None:
        """Put the accounts back and tell how they are left, also after Ctrl-C and after a failure."""
        await self._server.api.settle()
        for account, found in zip(self._accounts, self._found, strict=True):
            left = await _put_back(account, found)
            self.left.append(AccountLeft(account.number, found, left))
            if left == found:
                self._say(f"Account {account.number} is back at {found}.")
            else:
                holds = "its balance can't be read any more" if left is None else f"it is left with {left}"
                self._note(f"Account {account.number} could not be put back: it had {found}, and {holds}.")
        self._say(f"{self._server.api.requests:,} requests were sent.")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self._say(text)


async def _result(check: Check, server: Server) -> Result:
    try:
        await check.run(server)
    except Failed as failure:
        return Result(check.name, "failed", failure.sent, failure.received, failure.expected)
    except NotSupported as lack:
        return Result(check.name, "not supported", reason=lack.reason)
    return Result(check.name, "passed")


async def _require_rest(first: AccountUnderCheck, second: AccountUnderCheck, found: Sequence[Decimal]) -> None:
    """Refuse accounts whose balances leave no room, or change though nothing was sent yet."""
    for account, balance in zip((first, second), found, strict=True):
        if abs(balance) > _FARTHEST_FROM_ZERO:
            raise AccountsUnusable(
                f"Account {account.number} has {balance}, too far from zero for large amounts to be tried: "
                "name another with --account."
            )
    for _ in range(_WATCHES):
        await asyncio.sleep(_WATCH_SECONDS)
        for account, before in zip((first, second), found, strict=True):
            now = _balance(account, await account.read())
            if now != before:
                raise AccountsUnusable(
                    f"Account {account.number} went from {before} to {now} by itself, so somebody is using it: "
                    "name one that nobody uses with --account."
                )


def _plan(shown: str, first: AccountUnderCheck, second: AccountUnderCheck, found: Sequence[Decimal]) -> str:
    return (
        f"Checking {shown} with its accounts {first.number} (balance {found[0]}) and {second.number} "
        f"(balance {found[1]}).\n"
        f"About {ABOUT_REQUESTS:,} requests will deposit to both and withdraw from them, and try to break things. "
        "Nobody else should use these two meanwhile; no other account is touched. "
        "At the end both are put back to these balances, as far as the server allows."
    )


async def _put_back(account: AccountUnderCheck, found: Decimal) -> Decimal | None:
    """Deposit or withdraw what an account differs by, and give the balance it then has; None if there is none."""
    for _ in range(_TRIES_TO_PUT_BACK):
        now = _balance(account, await account.read())
        if now is None or now == found:
            return now
        difference = _WIDE.subtract(found, now)
        call: Call = "deposit" if difference > 0 else "withdraw"
        amount = min(difference.copy_abs(), Decimal(LARGEST_SENT))
        exchange = await account.send(call, f"{amount:f}")
        if exchange.is_refused:  # it may have come to what is no whole cents
            cents = amount.quantize(_CENT, context=_WIDE)
            if not cents:
                return now
            exchange = await account.send(call, f"{cents:f}")
        if exchange.status != 200:
            break
    return _balance(account, await account.read())


def _balance(account: AccountUnderCheck, read: Exchange) -> Decimal | None:
    try:
        return read.balance(account.number)
    except Failed:
        return None


def _report(server: str, accounts: list[AccountLeft], notes: list[str], results: list[Result]) -> Report:
    counts = Counter(result.outcome for result in results)
    return Report(server, accounts, counts["passed"], counts["failed"], counts["not supported"], notes, results)
