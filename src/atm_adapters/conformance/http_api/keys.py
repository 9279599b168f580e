"""Checks of idempotency keys: a retry with the same key is not applied again."""

import asyncio
from collections import Counter
from typing import Final
from uuid import uuid4

from atm_adapters.conformance.http_api.account import CALLS, mismatch, same_cents, signed
from atm_adapters.conformance.http_api.client import JSON, CheckFailed, Exchange, NotSupported
from atm_adapters.conformance.http_api.server import Server
from atm_adapters.conformance.http_api.transactions import CLIENTS

_ROUNDS: Final = 6  # of concurrent retries, each with a new key


async def retries_are_applied_once(server: Server) -> None:
    """Retry after another deposit. The response must be the first one again."""
    account = server.first
    ignored: list[Exchange] = []
    for call in CALLS:
        key = str(uuid4())
        first = await account.transact(call, "1.01", key)
        between = await account.transact("deposit", "5")
        before = between.balance(account.number)
        retry = await account.send(call, "1.01", key)
        read = await account.read()
        after = read.balance(account.number)
        if retry.status == 200 and same_cents(after, before + signed(call, "1.01")):
            ignored.append(retry)
        elif not same_cents(after, before) or retry.balance(account.number) != first.balance(account.number):
            expected = f"the first response again, and a balance of {before} when it is read"
            raise mismatch(expected, first, between, retry, read)
    if len(ignored) == len(CALLS) and not server.declared.idempotency_keys:
        raise NotSupported("Idempotency-Key is ignored: a retry with the same key is applied again")
    if ignored:
        raise mismatch("the first response again and an unchanged balance, because the key was used before", *ignored)


async def concurrent_retries_are_applied_once(server: Server) -> None:
    """Require the first response again, or 409, which the IETF's draft of the header allows in section 2.7."""
    await _require_keys(server)
    account = server.first
    for call in CALLS * (_ROUNDS // 2):
        key = str(uuid4())
        expected = await account.balance() + signed(call, "1")
        exchanges = await asyncio.gather(*(account.send(call, "1", key) for _ in range(CLIENTS)))
        read = await account.read()
        matches = same_cents(read.balance(account.number), expected) and all(
            each.status == 409 or same_cents(each.balance(account.number), expected) for each in exchanges
        )
        if not matches:
            responses = Counter(each.received for each in exchanges).most_common(3)
            raise CheckFailed(
                f"{CLIENTS} concurrent requests: {exchanges[0].sent}",
                "; ".join(f"{count} times {response}" for response, count in responses) + f"; then {read.received}",
                f"a balance of {expected} in each 200 response and when it is read",
            )


async def keys_identify_one_transaction(server: Server) -> None:
    """Reuse a key for another amount, for the other call, and for another account, which may accept or reject it."""
    await _require_keys(server)
    key = str(uuid4())
    first = await server.first.transact("deposit", "1.01", key)
    before = first.balance(server.first.number)
    await server.first.assert_rejected(await server.first.send("deposit", "2.02", key), before)
    await server.first.assert_rejected(await server.first.send("withdraw", "1.01", key), before)
    before = await server.second.balance()
    exchange = await server.second.send("deposit", "1.01", key)
    if exchange.is_rejected:
        await server.second.assert_balance(before, exchange)
    else:
        await server.second.assert_applied(exchange, before + signed("deposit", "1.01"))


async def malformed_keys_are_rejected(server: Server) -> None:
    """Send a key that is too long, and two keys in one request."""
    await _require_keys(server)
    account = server.first
    accepted = []
    for description, keys in [
        ("a key of 300 characters", [f"{uuid4()}".ljust(300, "-")]),
        ("a request with two keys", [f"{uuid4()}", f"{uuid4()}"]),
    ]:
        before = await account.balance()
        exchange = await account.post("deposit", b'{"amount": 1}', JSON, *(("Idempotency-Key", key) for key in keys))
        if exchange.status == 200:
            await account.assert_applied(exchange, before + 1)
            accepted.append(description)
        else:
            await account.assert_rejected(exchange, before)
    if accepted:
        raise NotSupported(f"accepted: {' and '.join(accepted)}")


async def _require_keys(server: Server) -> None:
    """Send a deposit twice with one key.

    :raises NotSupported: if both are applied. :func:`retries_are_applied_once` fails if the server declares keys.
    """
    account, key = server.first, str(uuid4())
    before = await account.balance()
    for _ in range(2):
        await account.send("deposit", "1", key)
    if same_cents(await account.balance(), before + 2):
        raise NotSupported("Idempotency-Key is ignored")
