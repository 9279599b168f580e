"""Checks of what has to be refused: with a status of 4xx, and with every account as it was."""

from collections.abc import Iterable
from decimal import Decimal
from secrets import randbelow
from typing import Final
from uuid import uuid4

from atm_adapters.api_check.account import CALLS, AccountUnderCheck, failed, signed
from atm_adapters.api_check.client import JSON, Exchange, NotSupported, printable
from atm_adapters.api_check.server import Server

_NOT_POSITIVE: Final = ("0", "0.00", "-0", "-0.01", "-5", "-1e2", '"0"', '"-5"')
_NO_NUMBERS: Final = (
    "true", "false", "null", "[]", "[5]", "{}", '{"value": 5}', '""', '" "', '" 5 "', '"abc"', '"5 EUR"', '"1,000"',
    '"1_000"', '"0x10"', '"--5"', '"\u0665"',
)  # fmt: skip
# The first three are no JSON, but decoders take them.
_UNHOLDABLE: Final = (
    "Infinity", "-Infinity", "NaN", "1e400", "-1e400", "1E+1000000", "1e999999999999999999999", "9" * 400,
    '"Infinity"', '"-Infinity"', '"inf"', '"NaN"', '"sNaN"', '"1e400"', f'"{"9" * 400}"', "1e-400",
)  # fmt: skip
_FRACTIONS_OF_A_CENT: Final = ("0.001", "0.005", "10.255", '"0.001"')
_BODIES: Final = (
    b"", b" ", b"{", b"{}", b"[]", b"null", b"5", b'"amount"', b'{"amount": 5', b'{"amount" 5}', b"amount=5",
    b'{"other": 5}', b"\xff\xfe", b'{"amount": "\xff"}', b"[" * 30_000, b'{"amount": ' * 10_000,
)  # fmt: skip
_LARGE_BODY_BYTES: Final = 2_000_000
_NEARLY_NOTHING: Final = Decimal("0.000001")


async def accounts_that_do_not_exist_are_refused(server: Server) -> None:
    """404 for all three calls, and a deposit opens none; 4xx for what can't be an account's number at all."""
    path = f"/accounts/{_unknown(server)}"
    for exchange in (
        await server.api.get(f"{path}/balance"),
        await server.api.post(f"{path}/deposit", b'{"amount": 5}'),
        await server.api.post(f"{path}/withdraw", b'{"amount": 5}'),
        await server.api.get(f"{path}/balance"),
    ):
        if exchange.status != 404:
            raise failed("404, as there is no such account", exchange)

    before = await server.first.balance()
    for number in ("no%20such%20account", "%00", f"{server.first.number}%00", "%ff", "x" * 65, "'%20OR%20'1'='1"):
        for exchange in (
            await server.api.get(f"/accounts/{number}/balance"),
            await server.api.post(f"/accounts/{number}/deposit", b'{"amount": 5}'),
        ):
            await server.first.hold_refused(exchange, before)


async def bodies_without_an_amount_are_refused(server: Server) -> None:
    """Nothing, no JSON, no object, no member of the name, no UTF-8, and nesting without end."""
    before = await server.second.balance()
    for body in _BODIES:
        for call in CALLS:
            await server.second.hold_refused(await server.second.post(call, body), before)


async def reading_moves_no_money(server: Server) -> None:
    """GET, on the paths that move money."""
    before = await server.first.balance()
    for call in CALLS:
        exchange = await server.api.get(f"/accounts/{server.first.number}/{call}")
        await server.first.hold_refused(exchange, before)


async def other_media_types_are_refused(server: Server) -> None:
    """A body that is said to be text may come from a form on any web page."""
    before = await server.first.balance()
    exchange = await server.first.post("deposit", b'{"amount": 5}', ("Content-Type", "text/plain"))
    if exchange.status == 200 and not server.announced.media_types:
        raise NotSupported("a deposit that is said to be text/plain is accepted")
    await server.first.hold_refused(exchange, before)


async def large_bodies_are_refused(server: Server) -> None:
    """A server that reads without end can be filled up."""
    before = await server.first.balance()
    padding = b"x" * (_LARGE_BODY_BYTES - 30)
    exchange = await server.first.post("deposit", b'{"amount": 5, "padding": "%s"}' % padding)
    if exchange.status == 200:
        raise NotSupported(f"a body of {_LARGE_BODY_BYTES:,} bytes is accepted")
    if exchange.is_cut_off:  # while the body was still coming, so that the answer may be lost
        await server.first.hold(before, exchange)
    else:
        await server.first.hold_refused(exchange, before)


async def foreign_pages_are_refused(server: Server) -> None:
    """What a browser sends for a page of another site."""
    before = await server.first.balance()
    exchange = await server.first.post(
        "deposit", b'{"amount": 5}', JSON, ("Origin", "https://elsewhere.example"), ("Sec-Fetch-Site", "cross-site")
    )
    if exchange.status == 200:
        raise NotSupported("a deposit in the name of a page of another site is accepted")
    await server.first.hold_refused(exchange, before)


async def errors_are_problem_documents(server: Server) -> None:
    """All of them, or none."""
    exchanges = [
        await server.api.get(f"/accounts/{_unknown(server)}/balance"),
        await server.first.send("deposit", "-5"),
        await server.first.post("withdraw", b"{"),
    ]
    if not any(_is_called_problem(exchange) for exchange in exchanges) and not server.announced.problems:
        content_type = printable(exchanges[0].content_type.encode())
        raise NotSupported(f"errors come as {content_type}" if content_type else "errors come without a Content-Type")
    for exchange in exchanges:
        if not (_is_called_problem(exchange) and _is_problem(exchange)):
            raise failed("an application/problem+json with the status in it", exchange)


async def amounts_that_are_not_positive_are_refused(server: Server) -> None:
    """Zero, and less."""
    await _hold_refused(server.second, _NOT_POSITIVE)


async def amounts_that_are_no_numbers_are_refused(server: Server) -> None:
    """Other JSON, and strings that are no plain decimal number."""
    await _hold_refused(server.second, _NO_NUMBERS)


async def amounts_that_no_account_holds_are_refused(server: Server) -> None:
    """Infinity and the like, which may ruin the account: it is read after each of them."""
    await _hold_refused(server.second, _UNHOLDABLE)


async def fractions_of_a_cent_are_not_rounded(server: Server) -> None:
    """Refused, or else kept."""
    account = server.second
    before = await account.balance()
    kept = False
    for amount in _FRACTIONS_OF_A_CENT:
        for call in CALLS:
            exchange = await account.send(call, amount)
            if exchange.is_refused:
                await account.hold(before, exchange)
                continue
            read = await account.read()
            wanted = before + signed(call, amount)
            if exchange.status != 200 or abs(read.balance(account.number) - wanted) > _NEARLY_NOTHING:
                raise failed(f"4xx, and a balance of {before} when it is read; or at least {wanted}", exchange, read)
            before, kept = read.balance(account.number), True
    if kept:
        raise NotSupported("fractions of a cent are accepted, and kept")


async def _hold_refused(account: AccountUnderCheck, amounts: Iterable[str]) -> None:
    before = await account.balance()
    for amount in amounts:
        for call in CALLS:
            await account.hold_refused(await account.send(call, amount), before)


def _unknown(server: Server) -> str:
    """An account number that nobody has; of digits if both accounts have such, as the server may want an integer."""
    if server.first.number.isdecimal() and server.second.number.isdecimal():
        return str(1_000_000_000 + randbelow(1_000_000_000))
    return f"no-such-account-{uuid4().hex}"


def _is_called_problem(exchange: Exchange) -> bool:
    return exchange.content_type.startswith("application/problem+json")


def _is_problem(exchange: Exchange) -> bool:
    """Whether it is as RFC 9457 says; every member is optional there."""
    try:
        problem = exchange.json()
    except ValueError:
        return False
    return (
        isinstance(problem, dict)
        and problem.get("status", exchange.status) == exchange.status
        and all(isinstance(problem.get(name, ""), str) for name in ("type", "title", "detail"))
    )
