"""Checks of transactions that must succeed: balances, deposits, withdrawals, exact cents, concurrent clients."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from itertools import chain
from typing import Final

from atm_adapters.conformance.http_api.account import CALLS, AccountUnderTest, Call, mismatch, same_cents, signed
from atm_adapters.conformance.http_api.client import CheckFailed, Exchange, NotSupported
from atm_adapters.conformance.http_api.server import Server
from atm_core import MAX_MONEY

CLIENTS: Final = 16  # send concurrently
_EACH: Final = 10  # transactions of each client
# If balances are doubles, adding and subtracting the first changes those whose cents are not a multiple of 25.
_LARGE: Final = ("1234567890123.45", "12345678.90")


async def balances_are_json(server: Server) -> None:
    """Read both balances."""
    for account in (server.first, server.second):
        await account.balance()


async def deposits_return_the_new_balance(server: Server) -> None:
    """Deposit, then withdraw without checking the response."""
    await server.first.transact("deposit", "10.25")
    await server.first.send("withdraw", "10.25")


async def withdrawals_return_the_new_balance(server: Server) -> None:
    """Deposit without checking the response, then withdraw."""
    await server.first.send("deposit", "10.25")
    await server.first.transact("withdraw", "10.25")


async def amounts_may_be_strings(server: Server) -> None:
    """Send amounts as JSON strings, as clients do whose numbers are floats."""
    for call in CALLS:
        await _transact_if_supported(server.first, call, '"10.25"')


async def accounts_are_independent(server: Server) -> None:
    """Deposit and withdraw on one account, and read the other."""
    before = await server.second.balance()
    for call in CALLS:
        exchange = await server.first.transact(call, "10.25")
        await server.second.assert_balance(before, exchange)


async def balances_may_be_negative(server: Server) -> None:
    """Withdraw more than the balance."""
    more_than_balance = str(int(max(await server.first.balance(), Decimal())) + 1)
    await _transact_if_supported(server.first, "withdraw", more_than_balance)
    await server.first.transact("deposit", more_than_balance)


async def balances_are_exact(server: Server) -> None:
    """Add small amounts, then add and subtract a large one."""
    account = server.first
    for _ in range(3):
        await _transact_exactly(account, "deposit", "0.10")
    for large in _LARGE:
        before = await account.balance()
        exchange = await account.send("deposit", large)
        if not exchange.is_rejected:
            break
        await account.assert_balance(before, exchange)
    else:
        raise NotSupported(f"a deposit of {_LARGE[-1]} is rejected; smaller ones were exact")
    await _assert_exact(account, exchange, before + Decimal(large))
    await _transact_exactly(account, "withdraw", large)
    await _transact_exactly(account, "deposit", "0.01")  # one of two balances is no multiple of 0.25
    await _transact_exactly(account, "deposit", large)
    await _transact_exactly(account, "withdraw", large)


async def balances_have_a_limit(server: Server) -> None:
    """Deposit the largest amount twice: the total has 16 digits, and doubles distinguish only 15."""
    account = server.second
    for _ in range(2):
        before = await account.balance()
        exchange = await account.send("deposit", str(MAX_MONEY))
        if exchange.is_rejected:
            await account.assert_balance(before, exchange)
            return
        await account.assert_applied(exchange, before + MAX_MONEY)
    raise NotSupported(f"two deposits of {MAX_MONEY} are accepted")


async def concurrent_transactions_are_applied(server: Server) -> None:
    """Send deposits, which must return distinct balances, then a mix of deposits and withdrawals."""
    before = await server.first.balance()
    exchanges = await _send_concurrently(server.first, [("deposit", "0.01")] * _EACH)
    balances = [exchange.balance(server.first.number) for exchange in exchanges]
    cents = {round((balance - before) * 100) for balance in balances}
    if cents != set(range(1, len(exchanges) + 1)):
        raise CheckFailed(
            _sent_concurrently(exchanges),
            f"{len(cents)} different balances, from {min(balances)} to {max(balances)}",
            f"{len(exchanges)} different balances, from {before + signed('deposit', '0.01')} in steps of 0.01",
        )

    deposits_and_withdrawals: list[tuple[Call, str]] = [("deposit", "0.03"), ("withdraw", "0.01")]
    exchanges += await _send_concurrently(server.first, deposits_and_withdrawals * (_EACH // 2))
    for exchange in exchanges:
        exchange.balance(server.first.number)
    expected = before + Decimal("0.01") * CLIENTS * (_EACH + _EACH // 2 * 2)
    after = await server.first.balance()
    if not same_cents(after, expected):
        sent = _sent_concurrently(exchanges)
        raise CheckFailed(sent, f"200 for each, then a balance of {after}", f"a balance of {expected}")


async def _transact_if_supported(account: AccountUnderTest, call: Call, amount: str) -> None:
    before = await account.balance()
    exchange = await account.send(call, amount)
    if exchange.is_rejected:
        await account.assert_balance(before, exchange)
        raise NotSupported(f"{exchange.sent} is rejected with {exchange.status}")
    await account.assert_applied(exchange, before + signed(call, amount))


async def _transact_exactly(account: AccountUnderTest, call: Call, amount: str) -> None:
    before = await account.balance()
    await _assert_exact(account, await account.send(call, amount), before + signed(call, amount))


async def _assert_exact(account: AccountUnderTest, exchange: Exchange, expected: Decimal) -> None:
    if exchange.balance(account.number) != expected:
        raise mismatch(f"a balance of exactly {expected}", exchange)
    read = await account.read()
    if read.balance(account.number) != expected:
        raise mismatch(f"a balance of exactly {expected} when it is read", exchange, read)


async def _send_concurrently(account: AccountUnderTest, transactions: Sequence[tuple[Call, str]]) -> list[Exchange]:
    """Let every client send all transactions in order, until a status is not 200."""

    async def client() -> list[Exchange]:
        exchanges = []
        for call, amount in transactions:
            exchanges.append(await account.send(call, amount))
            if exchanges[-1].status != 200:
                break
        return exchanges

    return list(chain.from_iterable(await asyncio.gather(*(client() for _ in range(CLIENTS)))))


def _sent_concurrently(exchanges: Sequence[Exchange]) -> str:
    requests = " or ".join(dict.fromkeys(exchange.sent for exchange in exchanges))
    return f"{len(exchanges)} requests from {CLIENTS} concurrent clients: {requests}"
