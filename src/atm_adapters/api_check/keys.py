"""Checks of idempotency keys: a transaction that is sent again under its key counts once."""

import asyncio
from collections import Counter
from typing import Final
from uuid import uuid4

from atm_adapters.api_check.account import CALLS, failed, same_cents, signed
from atm_adapters.api_check.client import JSON, Exchange, Failed, NotSupported
from atm_adapters.api_check.movements import CLIENTS
from atm_adapters.api_check.server import Server

_ROUNDS: Final = 6  # of concurrent retries, each under a key of its own
_CONFLICT: Final = 409  # while the first is under way (the IETF's draft for Idempotency-Key, section 2.7)


async def retries_count_once(server: Server) -> None:
    """And get the first answer again, though the balance has changed meanwhile."""
    account = server.first
    ignored: list[Exchange] = []
    for call in CALLS:
        key = str(uuid4())
        first = await account.move(call, "1.01", key)
        between = await account.move("deposit", "5")
        before = between.balance(account.number)
        again = await account.send(call, "1.01", key)
        read = await account.read()
        now = read.balance(account.number)
        if again.status == 200 and same_cents(now, before + signed(call, "1.01")):
            ignored.append(again)
        elif not same_cents(now, before) or again.balance(account.number) != first.balance(account.number):
            raise failed(
                f"the first answer again, and a balance of {before} when it is read", first, between, again, read
            )
    if len(ignored) == len(CALLS) and not server.announced.keys:
        raise NotSupported("Idempotency-Key is ignored: a transaction that is sent again under it counts again")
    if ignored:
        raise failed("the first answer again, and no money moved, as the key was used for it before", *ignored)


async def concurrent_retries_count_once(server: Server) -> None:
    """Whoever comes first; the others get its answer, or are told that it is under way."""
    await _require_keys(server)
    account = server.first
    for call in CALLS * (_ROUNDS // 2):
        key = str(uuid4())
        wanted = await account.balance() + signed(call, "1")
        exchanges = await asyncio.gather(*(account.send(call, "1", key) for _ in range(CLIENTS)))
        read = await account.read()
        is_right = same_cents(read.balance(account.number), wanted) and all(
            each.status == _CONFLICT or same_cents(each.balance(account.number), wanted) for each in exchanges
        )
        if not is_right:
            answers = Counter(each.received for each in exchanges).most_common(3)
            raise Failed(
                f"{exchanges[0].sent}, {CLIENTS} times at once",
                "; ".join(f"{count} times {answer}" for answer, count in answers) + f"; then, read, {read.received}",
                f"a balance of {wanted}, in each answer of 200 and when it is read",
            )


async def keys_belong_to_one_transaction(server: Server) -> None:
    """Under a key that was used, another amount or the other call is refused; another account moves or refuses."""
    await _require_keys(server)
    key = str(uuid4())
    first = await server.first.move("deposit", "1.01", key)
    before = first.balance(server.first.number)
    await server.first.hold_refused(await server.first.send("deposit", "2.02", key), before)
    await server.first.hold_refused(await server.first.send("withdraw", "1.01", key), before)
    before = await server.second.balance()
    exchange = await server.second.send("deposit", "1.01", key)
    if exchange.is_refused:
        await server.second.hold(before, exchange)
    else:
        await server.second.hold_counted(exchange, before + signed("deposit", "1.01"))


async def ill_formed_keys_are_refused(server: Server) -> None:
    """A key that is too long, and two keys for one transaction."""
    await _require_keys(server)
    account = server.first
    accepted = []
    for what, keys in [
        ("a key of 300 characters", [f"{uuid4()}".ljust(300, "-")]),
        ("two keys for one transaction", [f"{uuid4()}", f"{uuid4()}"]),
    ]:
        before = await account.balance()
        exchange = await account.post("deposit", b'{"amount": 1}', JSON, *(("Idempotency-Key", key) for key in keys))
        if exchange.status == 200:
            await account.hold_counted(exchange, before + 1)
            accepted.append(what)
        else:
            await account.hold_refused(exchange, before)
    if accepted:
        raise NotSupported(f"{' and '.join(accepted)}: accepted")


async def _require_keys(server: Server) -> None:
    """Find out whether keys do anything.

    :raises NotSupported: if a deposit counts again; whether it should not is for :func:`retries_count_once` to say.
    """
    account, key = server.first, str(uuid4())
    before = await account.balance()
    for _ in range(2):
        await account.send("deposit", "1", key)
    if same_cents(await account.balance(), before + 2):
        raise NotSupported("Idempotency-Key is ignored")
