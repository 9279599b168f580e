"""Checks of the calls that a server may offer beyond balances: entry numbers, openings, limits, histories, closing.

They use an account of their own, which the first of them opens. A server need not offer any of this, so a missing
call is reported as not supported.
"""

import asyncio
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

from atm_adapters.conformance.http_api.account import AccountUnderTest, mismatch
from atm_adapters.conformance.http_api.client import JSON, CheckFailed, Exchange, NotSupported
from atm_adapters.conformance.http_api.server import Server
from atm_adapters.conformance.http_api.transactions import CLIENTS

_NOT_OFFERED: Final = (404, 405, 501)
_CREATED: Final = 201
_PAGE: Final = 3  # entries
_MAX_PAGES: Final = 50


async def entries_are_numbered(server: Server) -> None:
    """Send accepted, rejected and concurrent deposits. Only the accepted ones have numbers."""
    account = server.first
    before = await account.transact("deposit", "0.01")
    first = before.member("entry")
    if first is None:
        raise NotSupported("responses to deposits have no entry")
    await account.send("deposit", "-5")
    after = await account.transact("withdraw", "0.01")
    if not isinstance(first, Decimal) or first < 1 or after.member("entry") != first + 1:
        raise mismatch("entry numbers that follow each other", before, after)
    exchanges = await asyncio.gather(*(account.send("deposit", "0.01") for _ in range(CLIENTS)))
    numbers = sorted(str(exchange.member("entry")) for exchange in exchanges)
    if numbers != sorted(str(first + 2 + index) for index in range(CLIENTS)):
        raise CheckFailed(
            f"{CLIENTS} concurrent requests: {exchanges[0].sent}",
            f"entries {', '.join(numbers)}",
            f"entries {first + 2} to {first + 1 + CLIENTS}, each once",
        )


async def accounts_are_opened_once(server: Server) -> None:
    """Open an account, retry with the key, reuse the key, and open the account again without a key."""
    account, key = server.third, str(uuid4())
    first = await _open(account, "0", key)
    if first.is_rejected:
        raise NotSupported(f"{first.sent} is rejected with {first.status}")
    if first.status != _CREATED or first.member("balance") != 0:
        raise mismatch(f"{_CREATED} with a balance of 0.00", first)
    await account.assert_balance(Decimal(), first)
    await account.assert_rejected(await _open(account, "0"), Decimal())
    await account.assert_rejected(await _open(account, "1", key), Decimal())
    retry = await _open(account, "0", key)
    if retry.is_rejected:
        raise NotSupported("Idempotency-Key is ignored: a retry of an opening is rejected")
    if (retry.status, retry.body) != (first.status, first.body):
        raise mismatch("the first response again", first, retry)


async def limits_are_obeyed(server: Server) -> None:
    """Let many clients withdraw more than there is, then more than one withdrawal may take."""
    account = await _opened(server)
    await _set_balance(account, Decimal(10))
    await _limit(account, "0", "null")
    exchanges = await asyncio.gather(*(account.send("withdraw", "6") for _ in range(CLIENTS)))
    accepted = [exchange for exchange in exchanges if not exchange.is_rejected]
    if len(accepted) != 1:
        raise CheckFailed(
            f"{CLIENTS} concurrent requests: {exchanges[0].sent}",
            f"{len(accepted)} are not rejected",
            "one is applied, because the balance is 10.00 and the overdraft limit is 0",
        )
    await account.assert_applied(accepted[0], Decimal(4))

    await _limit(account, "5.50", "9.50")
    await account.transact("withdraw", "9.50")
    await account.assert_rejected(await account.send("withdraw", "0.01"), Decimal("-5.50"))
    await account.transact("deposit", "20")
    await account.assert_rejected(await account.send("withdraw", "9.51"), Decimal("14.50"))
    await _limit(account, "null", "null")
    await account.transact("withdraw", "1000")


async def histories_have_each_entry_once(server: Server) -> None:
    """Follow ``next`` while deposits go on, newest first and then oldest first."""
    account = await _opened(server)
    for _ in range(2 * _PAGE):
        await account.transact("deposit", "0.10")
    pages = await _pages(account, f"limit={_PAGE}")
    numbers = _numbers(pages)
    if len(numbers) <= 2 * _PAGE or numbers != [*range(len(numbers), 0, -1)]:
        raise mismatch("each entry once, the newest first", *pages)
    pages = await _pages(account, f"limit={_PAGE}&after=0")
    numbers = _numbers(pages)
    if numbers != [*range(1, len(numbers) + 1)]:
        raise mismatch("each entry once, the oldest first", *pages)
    for malformed in ("limit=0", "limit=x", "before=-1"):
        exchange = await _history(account, malformed)
        await account.assert_rejected(exchange, await account.balance())


async def accounts_can_be_closed(server: Server) -> None:
    """Close an account with and without a balance, use it, and reopen it."""
    account = await _opened(server)
    await _set_balance(account, Decimal(1))
    refused = await account.change("close")
    if refused.status in _NOT_OFFERED:
        raise NotSupported(f"{refused.sent} is not offered")
    await account.assert_rejected(refused, Decimal(1))
    await _set_balance(account, Decimal(0))
    closed = await account.change("close")
    if closed.status != 200:
        raise mismatch("200, because the balance is zero", closed)
    for exchange in (
        await account.send("deposit", "1"),
        await account.send("withdraw", "1"),
        await account.change("close"),
        await _open(account, "0"),
    ):
        await account.assert_rejected(exchange, Decimal(0))
    reopened = await account.change("reopen")
    if reopened.status != 200:
        raise mismatch("200, because the account is closed", reopened)
    await account.transact("deposit", "1")


async def _opened(server: Server) -> AccountUnderTest:
    """Return the account of the checks, which is opened first if it does not exist."""
    account = server.third
    if (await account.read()).find_balance(account.number) is None:
        exchange = await _open(account, "0")
        if exchange.is_rejected:
            raise NotSupported(f"{exchange.sent} is rejected with {exchange.status}")
    return account


async def _open(account: AccountUnderTest, balance: str, key: str | None = None) -> Exchange:
    body = f'{{"account_number": "{account.number}", "balance": {balance}}}'
    headers = [] if key is None else [JSON, ("Idempotency-Key", key)]
    return await account.api.post("/accounts", body.encode(), *headers)


async def _history(account: AccountUnderTest, query: str) -> Exchange:
    return await account.api.get(f"/accounts/{account.number}/history?{query}")


async def _limit(account: AccountUnderTest, overdraft_limit: str, withdrawal_limit: str) -> None:
    """Set both limits, which are JSON text, and require that the account shows them."""
    body = f'{{"overdraft_limit": {overdraft_limit}, "withdrawal_limit": {withdrawal_limit}}}'
    changed = await account.api.put(f"/accounts/{account.number}/limits", body.encode())
    if changed.status in _NOT_OFFERED:
        raise NotSupported(f"{changed.sent} is rejected with {changed.status}")
    read = await account.api.get(f"/accounts/{account.number}")
    for name, limit in (("overdraft_limit", overdraft_limit), ("withdrawal_limit", withdrawal_limit)):
        if changed.status != 200 or read.member(name) != (None if limit == "null" else Decimal(limit)):
            raise mismatch("200, and these limits when the account is read", changed, read)


async def _set_balance(account: AccountUnderTest, balance: Decimal) -> None:
    difference = balance - await account.balance()
    if difference:
        await account.transact("deposit" if difference > 0 else "withdraw", str(abs(difference)))


async def _pages(account: AccountUnderTest, query: str) -> list[Exchange]:
    """Return a page of the history and all that follow it, with a deposit after the first."""
    pages: list[Exchange] = []
    while len(pages) < _MAX_PAGES:
        page = await _history(account, query)
        if page.status in _NOT_OFFERED:
            raise NotSupported(f"{page.sent} is rejected with {page.status}")
        pages.append(page)
        if len(pages) == 1:
            await account.transact("deposit", "0.10")
        following = page.member("next")
        if not isinstance(following, str):
            return pages
        query = urlsplit(following).query
    raise mismatch(f"null as next after at most {_MAX_PAGES} pages", pages[-1])


def _numbers(pages: list[Exchange]) -> list[object]:
    """Return the numbers of the entries on these pages."""
    numbers: list[object] = []
    for page in pages:
        entries = page.member("entries")
        if page.status != 200 or not isinstance(entries, list):
            raise mismatch("200 with JSON that has a list of entries", page)
        numbers += [entry.get("entry") if isinstance(entry, dict) else None for entry in entries]
    return numbers
