"""One account of the server under test."""

from decimal import Decimal
from typing import Final, Literal, TypeAlias

from atm_adapters.conformance.http_api.client import JSON, Api, CheckFailed, Exchange, Header

Call: TypeAlias = Literal["deposit", "withdraw"]
CALLS: Final[tuple[Call, Call]] = ("deposit", "withdraw")

_HALF_A_CENT = Decimal("0.005")


class AccountUnderTest:
    """An account, and the assertions about it, which raise :class:`CheckFailed`.

    ``was_modified`` becomes true when a request is sent that may change the balance.
    """

    def __init__(self, api: Api, number: str) -> None:
        self.api = api
        self.number = number
        self.was_modified = False

    async def read(self) -> Exchange:
        """Request the balance."""
        return await self.api.get(f"/accounts/{self.number}/balance")

    async def balance(self) -> Decimal:
        """Return the exact balance."""
        return (await self.read()).balance(self.number)

    async def post(self, call: Call, body: bytes, *headers: Header) -> Exchange:
        """Send a deposit or withdrawal with any body."""
        self.was_modified = True
        return await self.api.post(f"/accounts/{self.number}/{call}", body, *headers)

    async def send(self, call: Call, amount: str, key: str | None = None) -> Exchange:
        """Send a deposit or withdrawal. The amount is JSON text."""
        headers = [] if key is None else [JSON, ("Idempotency-Key", key)]
        return await self.post(call, f'{{"amount": {amount}}}'.encode(), *headers)

    async def change(self, change: Literal["close", "reopen"]) -> Exchange:
        """Close or reopen the account."""
        return await self.api.post(f"/accounts/{self.number}/{change}", b"{}")

    async def transact(self, call: Call, amount: str, key: str | None = None) -> Exchange:
        """Send a deposit or withdrawal, and require that it is applied."""
        before = await self.balance()
        exchange = await self.send(call, amount, key)
        await self.assert_applied(exchange, before + signed(call, amount))
        return exchange

    async def assert_applied(self, exchange: Exchange, expected: Decimal) -> None:
        """Require this balance in the response to a deposit or withdrawal, and again when it is read.

        Balances are compared to the nearest cent, because another check tests whether they are exact.
        """
        if not same_cents(exchange.balance(self.number), expected):
            raise mismatch(f"a balance of {expected}", exchange)
        await self.assert_balance(expected, exchange)

    async def assert_rejected(self, exchange: Exchange, before: Decimal) -> None:
        """Require a 4xx status and an unchanged balance."""
        if not exchange.is_rejected:
            raise mismatch(f"4xx, and a balance of {before} when it is read", exchange, await self.read())
        await self.assert_balance(before, exchange)

    async def assert_balance(self, expected: Decimal, *after: Exchange) -> None:
        """Require this balance, to the nearest cent, when it is read after these exchanges."""
        read = await self.read()
        balance = read.find_balance(self.number)
        if balance is None or not same_cents(balance, expected):
            raise mismatch(f"a balance of {expected} when it is read", *after, read)


def signed(call: Call, amount: str) -> Decimal:
    """Return the change of the balance. The amount is JSON text, as in :meth:`AccountUnderTest.send`."""
    number = Decimal(amount.strip('"'))
    return number if call == "deposit" else -number


def same_cents(first: Decimal, second: Decimal) -> bool:
    """Return whether two balances are equal to the nearest cent."""
    return abs(first - second) < _HALF_A_CENT


def mismatch(expected: str, *exchanges: Exchange) -> CheckFailed:
    """Return the error for consecutive exchanges."""
    sent = "; then ".join(each.sent for each in exchanges)
    received = "; then ".join(each.received for each in exchanges)
    return CheckFailed(sent, received, expected)
