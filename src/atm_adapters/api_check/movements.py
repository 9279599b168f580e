"""Checks of what has to work: the three calls, exact cents, many clients at once."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from itertools import chain
from typing import Final

from atm_adapters.api_check.account import AccountUnderCheck, Call, failed, same_cents, signed
from atm_adapters.api_check.client import Exchange, Failed, NotSupported
from atm_adapters.api_check.server import Server

CLIENTS: Final = 16
_EACH: Final = 10  # transactions at once, of each client
LARGEST_SENT: Final = "9999999999999.99"  # twice that has 16 digits, and doubles hold 15
# In doubles, the first takes the cents off a balance that is added to it, unless they are quarters.
_LARGE: Final = ("1234567890123.45", "12345678.90")


async def balances_are_answered(server: Server) -> None:
    """200, as JSON, with the account's number and its balance."""
    for account in (server.first, server.second):
        await account.balance()


async def deposits_are_answered(server: Server) -> None:
    """200, with the balance that the account then has."""
    await server.first.move("deposit", "10.25")
    await server.first.send("withdraw", "10.25")


async def withdrawals_are_answered(server: Server) -> None:
    """200, with the balance that the account then has."""
    await server.first.send("deposit", "10.25")
    await server.first.move("withdraw", "10.25")


async def amounts_may_be_strings(server: Server) -> None:
    """For clients whose numbers are floats."""
    await _move_or_not_supported(server.first, "deposit", '"10.25"')
    await _move_or_not_supported(server.first, "withdraw", '"10.25"')


async def accounts_are_apart(server: Server) -> None:
    """What moves the money of one account leaves the other's alone."""
    before = await server.second.balance()
    deposit = await server.first.move("deposit", "10.25")
    await server.second.hold(before, deposit)
    withdrawal = await server.first.move("withdraw", "10.25")
    await server.second.hold(before, withdrawal)


async def overdrafts_are_allowed(server: Server) -> None:
    """An account may go below zero."""
    more_than_there_is = str(int(max(await server.first.balance(), Decimal())) + 1)
    await _move_or_not_supported(server.first, "withdraw", more_than_there_is)
    await server.first.move("deposit", more_than_there_is)


async def cents_stay_exact(server: Server) -> None:
    """Small amounts add up, and a large one that comes and goes leaves the cents as they were."""
    account = server.first
    for _ in range(3):
        await _move_exactly(account, "deposit", "0.10")
    for large in _LARGE:
        before = await account.balance()
        exchange = await account.send("deposit", large)
        if not exchange.is_refused:
            break
        await account.hold(before, exchange)
    else:
        raise NotSupported(f"a deposit of {_LARGE[-1]} is refused; smaller ones were exact")
    await _hold_exactly(account, exchange, before + Decimal(large))
    await _move_exactly(account, "withdraw", large)
    await _move_exactly(account, "deposit", "0.01")  # so that at least one of the two has cents that are no quarters
    await _move_exactly(account, "deposit", large)
    await _move_exactly(account, "withdraw", large)


async def balances_have_a_limit(server: Server) -> None:
    """Beyond some limit a deposit is refused, before a client that reads doubles would take it for another sum."""
    account = server.second
    for _ in range(2):
        before = await account.balance()
        exchange = await account.send("deposit", LARGEST_SENT)
        if exchange.is_refused:
            await account.hold(before, exchange)
            return
        await account.hold_counted(exchange, before + Decimal(LARGEST_SENT))
    raise NotSupported(f"two deposits of {LARGEST_SENT} are accepted")


async def concurrent_transactions_count(server: Server) -> None:
    """Each of them, and in a load of deposits no balance is answered twice."""
    before = await server.first.balance()
    exchanges = await _at_once(server.first, [("deposit", "0.01")] * _EACH)
    answered = [exchange.balance(server.first.number) for exchange in exchanges]
    cents = {round((balance - before) * 100) for balance in answered}
    if cents != set(range(1, len(exchanges) + 1)):
        raise Failed(
            _sent_at_once(exchanges),
            f"{len(cents)} different balances, from {min(answered)} to {max(answered)}",
            f"{len(exchanges)} different ones, from {before + signed('deposit', '0.01')} by cents",
        )

    deposits_and_withdrawals: list[tuple[Call, str]] = [("deposit", "0.03"), ("withdraw", "0.01")]
    exchanges += await _at_once(server.first, deposits_and_withdrawals * (_EACH // 2))
    for exchange in exchanges:
        exchange.balance(server.first.number)
    wanted = before + Decimal("0.01") * CLIENTS * (_EACH + _EACH // 2 * 2)
    after = await server.first.balance()
    if not same_cents(after, wanted):
        raise Failed(_sent_at_once(exchanges), f"200 to all; then a balance of {after}", f"a balance of {wanted}")


async def _move_or_not_supported(account: AccountUnderCheck, call: Call, amount: str) -> None:
    before = await account.balance()
    exchange = await account.send(call, amount)
    if exchange.is_refused:
        await account.hold(before, exchange)
        raise NotSupported(f"{exchange.sent} is refused with {exchange.status}")
    await account.hold_counted(exchange, before + signed(call, amount))


async def _move_exactly(account: AccountUnderCheck, call: Call, amount: str) -> None:
    before = await account.balance()
    await _hold_exactly(account, await account.send(call, amount), before + signed(call, amount))


async def _hold_exactly(account: AccountUnderCheck, exchange: Exchange, wanted: Decimal) -> None:
    if exchange.balance(account.number) != wanted:
        raise failed(f"a balance of exactly {wanted}", exchange)
    read = await account.read()
    if read.balance(account.number) != wanted:
        raise failed(f"a balance of exactly {wanted} when it is read", exchange, read)


async def _at_once(account: AccountUnderCheck, transactions: Sequence[tuple[Call, str]]) -> list[Exchange]:
    """Let clients send these, each one after the other until one is not answered with 200."""

    async def client() -> list[Exchange]:
        exchanges = []
        for call, amount in transactions:
            exchanges.append(await account.send(call, amount))
            if exchanges[-1].status != 200:
                break
        return exchanges

    return list(chain.from_iterable(await asyncio.gather(*(client() for _ in range(CLIENTS)))))


def _sent_at_once(exchanges: Sequence[Exchange]) -> str:
    kinds = list(dict.fromkeys(exchange.sent for exchange in exchanges))
    return f"{CLIENTS} clients at once, {len(exchanges)} times in all: {' or '.join(kinds)}"
