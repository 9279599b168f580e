"""Runs the checks one after another, and then restores the balances of the two accounts."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from atm_adapters.bootstrap import redact_url
from atm_adapters.conformance.http_api.account import AccountUnderTest, Call
from atm_adapters.conformance.http_api.checks import CHECKS, Check
from atm_adapters.conformance.http_api.client import Api, CheckFailed, NotSupported
from atm_adapters.conformance.http_api.server import Server, read_declared_features, unused_number
from atm_core import MAX_MONEY

Outcome: TypeAlias = Literal["passed", "failed", "not supported"]

APPROXIMATE_REQUESTS: Final = 1_000  # of a whole run
_MAX_BALANCE: Final = Decimal(1_000_000_000_000)  # leaves room for the largest amounts that the checks deposit
_IDLE_READS: Final = 3
_IDLE_SECONDS: Final = 0.1  # before each of these reads
_RESTORE_ATTEMPTS: Final = 4
_CENT: Final = Decimal("0.01")
_EXACT: Final = Context(prec=100)  # enough digits for the difference of any two balances


class ServerUnreachable(Exception):
    """The server does not respond."""


class AccountsUnusable(Exception):
    """An account does not exist, is in use, or has too large a balance. The run has sent no transaction."""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a check. A failed check has three texts, one that is not supported has a reason."""

    name: str
    outcome: Outcome
    sent: str | None = None
    received: str | None = None
    expected: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AccountBalances:
    """The balances of an account before and after the run, None if they could not be read."""

    account_number: str
    found: Decimal | None
    left: Decimal | None


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a run."""

    server: str
    accounts: list[AccountBalances]
    passed: int
    failed: int
    not_supported: int
    notes: list[str]
    checks: list[Result]


def valid_url(url: str) -> str:
    """Return the URL unchanged if a server can be there.

    :raises ValueError: unless it is an ``http://`` or ``https://`` URL with a host, without a query or fragment.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{redact_url(url)!a} is not the URL of a server. Use a URL like http://127.0.0.1:8000")
    return url


def check_api(
    url: str,
    account_numbers: Sequence[str],
    *,
    token: str | None = None,
    say: Callable[[str], None],
    step: Callable[[str], None],
) -> Report:
    """Test the server at a URL with two of its accounts, and restore their balances, also on Ctrl-C.

    :param token: the access token, for a server that requires one.
    :param say: called with each message for the user.
    :param step: called with the name of each check before it runs.
    :raises ValueError: if the URL (see :func:`valid_url`) or the token is malformed.
    :raises ServerUnreachable: if the server does not respond to the first requests.
    :raises AccountsUnusable: if an account does not exist or cannot be used.
    """
    return asyncio.run(_check(valid_url(url), account_numbers, token, say, step))


async def _check(
    url: str, account_numbers: Sequence[str], token: str | None, say: Callable[[str], None], step: Callable[[str], None]
) -> Report:
    shown = redact_url(url)
    async with Api(url, token) as api:
        first, second = accounts = [AccountUnderTest(api, number) for number in account_numbers]
        found = []
        for account in accounts:
            read = await account.read()
            if read.status is None:
                raise ServerUnreachable(f"Cannot check {shown}: {read.error}.")
            if read.status in (401, 403):
                raise AccountsUnusable(f"{shown} responds with {read.status} to {read.sent}. {_token_advice(token)}")
            if read.status == 404:
                raise AccountsUnusable(
                    f"{shown} responds with 404 to {read.sent}. Name two existing accounts with --account, or "
                    "correct the URL."
                )
            try:
                found.append(read.balance(account.number))
            except CheckFailed as error:
                unreadable = [AccountBalances(number, None, None) for number in account_numbers]
                result = Result(CHECKS[0].name, "failed", error.sent, error.received, error.expected)
                note = "Skipped all other checks and sent no transactions, because a balance cannot be read."
                say(note)
                return _report(shown, unreadable, [note], [result])
        await _require_usable(accounts, found)

        say(
            f"Checking {shown} with account {first.number} (balance {found[0]}) and account {second.number} "
            f"(balance {found[1]}).\n"
            f"The checks send about {APPROXIMATE_REQUESTS:,} requests, many of them malformed. They deposit to these "
            "two accounts, withdraw from them, and then restore their balances. Do not use the accounts until then. "
            "All entries stay in the journal for ever, so do not check with accounts of production. "
            "They also open an account if the server offers that, and close it at the end."
        )
        third = AccountUnderTest(api, unused_number(first.number, second.number))
        run = _Run(Server(api, first, second, third, await read_declared_features(api)), found, say, step)
        try:
            await run.all_checks()
        finally:
            await run.end()
        return _report(shown, run.accounts, run.notes, run.results)


@dataclass
class _Run:
    """A run in progress: the balances to restore, and the results so far."""

    server: Server
    found: Sequence[Decimal]
    say: Callable[[str], None]
    step: Callable[[str], None]
    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    accounts: list[AccountBalances] = field(default_factory=list)

    async def all_checks(self) -> None:
        """Run the checks, each from the balances that the previous one left."""
        accounts = (self.server.first, self.server.second)
        before: list[Decimal | None] = list(self.found)
        for number, check in enumerate(CHECKS, start=1):
            self.step(check.name)
            for account in accounts:
                account.was_modified = False
            self.results.append(await _result(check, self.server))
            reads = [await account.read() for account in accounts]
            if all(read.status is None for read in reads):
                self._note(f"Skipped {len(CHECKS) - number} checks, because the server no longer responds.")
                return
            after = [read.find_balance(account.number) for account, read in zip(accounts, reads, strict=True)]
            for account, was, now in zip(accounts, before, after, strict=True):
                if was != now and not account.was_modified:
                    self._note(
                        f"The balance of account {account.number} changed from {_text(was)} to {_text(now)} during the "
                        f"check {check.name!r}, which sent no transaction to that account. If another client used the "
                        "account, run the checks again with accounts that are not in use."
                    )
            before = after

    async def end(self) -> None:
        """Restore both balances and report them, also after Ctrl-C or an error. Close the account that was opened."""
        await self.server.api.drain()
        third = self.server.third
        if (await third.read()).find_balance(third.number) is not None:
            left = await _restore(third, Decimal())
            is_closed = (await third.change("close")).status == 200
            state = "closed" if is_closed else "not closed"
            self.say(f"Opened account {third.number}. Its balance is {_text(left)}, and it is {state}.")
        for account, found in zip((self.server.first, self.server.second), self.found, strict=True):
            left = await _restore(account, found)
            self.accounts.append(AccountBalances(account.number, found, left))
            if left == found:
                self.say(f"Restored account {account.number} to a balance of {found}.")
            else:
                self._note(f"Could not restore account {account.number}: its balance was {found}, now {_text(left)}.")
        self.say(f"Sent {self.server.api.requests:,} requests.")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.say(text)


async def _result(check: Check, server: Server) -> Result:
    try:
        await check.run(server)
    except CheckFailed as error:
        return Result(check.name, "failed", error.sent, error.received, error.expected)
    except NotSupported as error:
        return Result(check.name, "not supported", reason=str(error))
    return Result(check.name, "passed")


async def _require_usable(accounts: Sequence[AccountUnderTest], found: Sequence[Decimal]) -> None:
    """Refuse accounts with a large balance, or with one that changes before any transaction is sent."""
    for account, balance in zip(accounts, found, strict=True):
        if abs(balance) > _MAX_BALANCE:
            raise AccountsUnusable(
                f"The balance of account {account.number} is {balance}, which leaves no room for large deposits. "
                f"Name an account with a balance from -{_MAX_BALANCE:,} to {_MAX_BALANCE:,} with --account."
            )
    for _ in range(_IDLE_READS):
        await asyncio.sleep(_IDLE_SECONDS)
        for account, before in zip(accounts, found, strict=True):
            now = (await account.read()).find_balance(account.number)
            if now != before:
                raise AccountsUnusable(
                    f"The balance of account {account.number} changed from {before} to {_text(now)} before any "
                    "transaction was sent, so another client uses it. Name an account not in use with --account."
                )


async def _restore(account: AccountUnderTest, found: Decimal) -> Decimal | None:
    """Deposit or withdraw what the balance lacks, and return the new balance, or None if it cannot be read."""
    for _ in range(_RESTORE_ATTEMPTS):
        now = (await account.read()).find_balance(account.number)
        if now is None or now == found:
            return now
        difference = _EXACT.subtract(found, now)
        call: Call = "deposit" if difference > 0 else "withdraw"
        amount = min(difference.copy_abs(), MAX_MONEY)
        exchange = await account.send(call, f"{amount:f}")
        if exchange.is_rejected:  # the difference may contain a fraction of a cent
            cents = amount.quantize(_CENT, context=_EXACT)
            if not cents:
                return now
            exchange = await account.send(call, f"{cents:f}")
        if exchange.status != 200:
            break
    return (await account.read()).find_balance(account.number)


def _token_advice(token: str | None) -> str:
    if token is None:
        return "It may need an access token: set ATM_TOKEN, or use --token-file."
    return "The access token must be valid, and allow reading and moving money on both accounts."


def _text(balance: Decimal | None) -> str:
    return "unknown" if balance is None else str(balance)


def _report(server: str, accounts: list[AccountBalances], notes: list[str], results: list[Result]) -> Report:
    counts = Counter(result.outcome for result in results)
    return Report(server, accounts, counts["passed"], counts["failed"], counts["not supported"], notes, results)
