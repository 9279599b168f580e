"""Checks of requests that must be rejected with a 4xx status and change no balance."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from atm_adapters.conformance.http_api.account import CALLS, mismatch, signed
from atm_adapters.conformance.http_api.client import JSON, Exchange, NotSupported, printable
from atm_adapters.conformance.http_api.server import Server
from atm_adapters.wire.problem_document import PROBLEM_JSON
from atm_core.account import MAX_ACCOUNT_NUMBER_LENGTH

ZERO_OR_LESS: Final = ("0", "0.00", "-0", "-0.01", "-5", "-1e2", '"0"', '"-5"')
NOT_NUMBERS: Final = (
    "true", "false", "null", "[]", "[5]", "{}", '{"value": 5}', '""', '" "', '" 5 "', '"abc"', '"5 EUR"', '"1,000"',
    '"1_000"', '"0x10"', '"--5"', '"\u0665"',
)  # fmt: skip
# The first three are not JSON, but many decoders accept them.
EXTREME: Final = (
    "Infinity", "-Infinity", "NaN", "1e400", "-1e400", "1E+1000000", "1e999999999999999999999", "9" * 400,
    '"Infinity"', '"-Infinity"', '"inf"', '"NaN"', '"sNaN"', '"1e400"', f'"{"9" * 400}"', "1e-400",
)  # fmt: skip
_FRACTIONS_OF_A_CENT: Final = ("0.001", "0.005", "10.255", '"0.001"')
_BODIES: Final = (
    b"", b" ", b"{", b"{}", b"[]", b"null", b"5", b'"amount"', b'{"amount": 5', b'{"amount" 5}', b"amount=5",
    b'{"other": 5}', b"\xff\xfe", b'{"amount": "\xff"}', b"[" * 30_000, b'{"amount": ' * 10_000,
)  # fmt: skip
_LARGE_BODY_BYTES: Final = 2_000_000
_TOLERANCE: Final = Decimal("0.000001")


async def unknown_accounts_are_rejected(server: Server) -> None:
    """Require 404 for an unknown account, also after a deposit to it, and 4xx for malformed account numbers.

    If the access token covers only some accounts, 403 must not show which others exist.
    """
    expected = (403, 404) if server.api.has_token else (404,)
    path = f"/accounts/{server.unused_number()}"
    for exchange in (
        await server.api.get(f"{path}/balance"),
        await server.api.post(f"{path}/deposit", b'{"amount": 5}'),
        await server.api.post(f"{path}/withdraw", b'{"amount": 5}'),
        await server.api.get(f"{path}/balance"),
    ):
        if exchange.status not in expected:
            raise mismatch("404, because the account does not exist", exchange)

    before = await server.first.balance()
    too_long = "x" * (MAX_ACCOUNT_NUMBER_LENGTH + 1)
    for number in ("no%20such%20account", "%00", f"{server.first.number}%00", "%ff", too_long, "'%20OR%20'1'='1"):
        for exchange in (
            await server.api.get(f"/accounts/{number}/balance"),
            await server.api.post(f"/accounts/{number}/deposit", b'{"amount": 5}'),
        ):
            await server.first.assert_rejected(exchange, before)


async def bodies_without_an_amount_are_rejected(server: Server) -> None:
    """Send empty, malformed, incomplete and deeply nested bodies."""
    before = await server.second.balance()
    for body in _BODIES:
        for call in CALLS:
            await server.second.assert_rejected(await server.second.post(call, body), before)


async def get_requests_change_no_balance(server: Server) -> None:
    """Send GET requests to the paths of deposits and withdrawals."""
    before = await server.first.balance()
    for call in CALLS:
        exchange = await server.api.get(f"/accounts/{server.first.number}/{call}")
        await server.first.assert_rejected(exchange, before)


async def other_media_types_are_rejected(server: Server) -> None:
    """Send JSON as text/plain, which a form on any web page can do."""
    before = await server.first.balance()
    exchange = await server.first.post("deposit", b'{"amount": 5}', ("Content-Type", "text/plain"))
    if exchange.status == 200 and not server.declared.media_types:
        raise NotSupported("a deposit with the media type text/plain is accepted")
    await server.first.assert_rejected(exchange, before)


async def large_bodies_are_rejected(server: Server) -> None:
    """Send a body that would fill the memory of a server without a limit."""
    before = await server.first.balance()
    padding = b"x" * (_LARGE_BODY_BYTES - 30)
    exchange = await server.first.post("deposit", b'{"amount": 5, "padding": "%s"}' % padding)
    if exchange.status == 200:
        raise NotSupported(f"a body of {_LARGE_BODY_BYTES:,} bytes is accepted")
    if exchange.is_disconnected:  # a server that closes the connection early may cut off its own response
        await server.first.assert_balance(before, exchange)
    else:
        await server.first.assert_rejected(exchange, before)


async def cross_site_requests_are_rejected(server: Server) -> None:
    """Send the headers that browsers add to requests of pages of other sites."""
    before = await server.first.balance()
    exchange = await server.first.post(
        "deposit", b'{"amount": 5}', JSON, ("Origin", "https://elsewhere.example"), ("Sec-Fetch-Site", "cross-site")
    )
    if exchange.status == 200:
        raise NotSupported("a deposit from a page of another site is accepted")
    await server.first.assert_rejected(exchange, before)


async def errors_are_problem_documents(server: Server) -> None:
    """Cause three different errors."""
    exchanges = [
        await server.api.get(f"/accounts/{server.unused_number()}/balance"),
        await server.first.send("deposit", "-5"),
        await server.first.post("withdraw", b"{"),
    ]
    problems = [each for each in exchanges if each.content_type.startswith(PROBLEM_JSON)]
    if not problems and not server.declared.problem_documents:
        content_type = printable(exchanges[0].content_type.encode())
        raise NotSupported(f"errors have {f'the Content-Type {content_type}' if content_type else 'no Content-Type'}")
    for exchange in exchanges:
        if exchange not in problems or not _is_problem(exchange):
            raise mismatch(f"{PROBLEM_JSON} whose member status equals the HTTP status", exchange)


async def amounts_are_rejected(amounts: Iterable[str], server: Server) -> None:
    """Send deposits and withdrawals of these amounts."""
    before = await server.second.balance()
    for amount in amounts:
        for call in CALLS:
            await server.second.assert_rejected(await server.second.send(call, amount), before)


async def fractions_of_a_cent_are_not_rounded(server: Server) -> None:
    """Send amounts with fractions of a cent, which a server may reject or keep."""
    account = server.second
    before = await account.balance()
    kept = False
    for amount in _FRACTIONS_OF_A_CENT:
        for call in CALLS:
            exchange = await account.send(call, amount)
            if exchange.is_rejected:
                await account.assert_balance(before, exchange)
                continue
            read = await account.read()
            exact = before + signed(call, amount)
            if exchange.status != 200 or abs(read.balance(account.number) - exact) > _TOLERANCE:
                raise mismatch(
                    f"4xx and an unchanged balance of {before}, or 200 and a balance of {exact}", exchange, read
                )
            before, kept = read.balance(account.number), True
    if kept:
        raise NotSupported("fractions of a cent are accepted and kept")


def _is_problem(exchange: Exchange) -> bool:
    """Return whether the members are as in RFC 9457, where each of them is optional."""
    try:
        problem = exchange.json()
    except ValueError:
        return False
    return (
        isinstance(problem, dict)
        and problem.get("status", exchange.status) == exchange.status
        and all(isinstance(problem.get(name, ""), str) for name in ("type", "title", "detail"))
    )
