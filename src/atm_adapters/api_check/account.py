"""One account of the server under check."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from atm_adapters.api_check.client import JSON, Api, Exchange, Failed, Header

Call: TypeAlias = Literal["deposit", "withdraw"]
CALLS: Final[tuple[Call, Call]] = ("deposit", "withdraw")

_HALF_A_CENT = Decimal("0.005")


class AccountUnderCheck:
    """An account by its number. ``is_touched`` says whether anything was sent that may move its money."""

    def __init__(self, api: Api, number: str) -> None:
        self.api = api
        self.number = number
        self.is_touched = False

    async def read(self) -> Exchange:
        """Ask for the balance."""
        return await self.api.get(f"/accounts/{self.number}/balance")

    async def balance(self) -> Decimal:
        """Read the balance, exactly.

        :raises Failed: if it can't be had.
        """
        return (await self.read()).balance(self.number)

    async def post(self, call: Call, body: bytes, *headers: Header) -> Exchange:
        """Send a deposit or a withdrawal, whatever its body."""
        self.is_touched = True
        return await self.api.post(f"/accounts/{self.number}/{call}", body, *headers)

    async def send(self, call: Call, amount: str, key: str | None = None) -> Exchange:
        """Send a deposit or a withdrawal of an amount, given as it is to stand in the JSON."""
        headers = [] if key is None else [JSON, ("Idempotency-Key", key)]
        return await self.post(call, f'{{"amount": {amount}}}'.encode(), *headers)

    async def move(self, call: Call, amount: str, key: str | None = None) -> Exchange:
        """Deposit or withdraw, and hold that it counted.

        :raises Failed: if it did not.
        """
        before = await self.balance()
        exchange = await self.send(call, amount, key)
        await self.hold_counted(exchange, before + signed(call, amount))
        return exchange

    async def hold_counted(self, exchange: Exchange, wanted: Decimal) -> None:
        """Hold that a deposit or a withdrawal answered this balance, and that it is read afterwards.

        Balances are compared to the nearest cent: whether cents stay exact is a check of its own.

        :raises Failed: if either is not so.
        """
        if not same_cents(exchange.balance(self.number), wanted):
            raise failed(f"a balance of {wanted}", exchange)
        await self.hold(wanted, exchange)

    async def hold_refused(self, exchange: Exchange, before: Decimal) -> None:
        """Hold that a request was refused with a status of 4xx, and that the balance is read as it was before.

        :raises Failed: if either is not so.
        """
        if exchange.is_refused:
            await self.hold(before, exchange)
        else:
            raise failed(f"4xx, and a balance of {before} when it is read", exchange, await self.read())

    async def hold(self, wanted: Decimal, *after: Exchange) -> None:
        """Read the balance, and hold it against the one that is wanted after these exchanges, to the nearest cent.

        :raises Failed: if it is another, or can't be read any more.
        """
        read = await self.read()
        try:
            is_right = same_cents(read.balance(self.number), wanted)
        except Failed:
            is_right = False
        if not is_right:
            raise failed(f"a balance of {wanted} when it is read", *after, read)


def signed(call: Call, amount: str) -> Decimal:
    """What a deposit or a withdrawal does to the balance; the amount as in :meth:`AccountUnderCheck.send`."""
    number = Decimal(amount.strip('"'))
    return number if call == "deposit" else -number


def same_cents(first: Decimal, second: Decimal) -> bool:
    """Whether two balances are the same to the nearest cent."""
    return abs(first - second) < _HALF_A_CENT


def failed(expected: str, *exchanges: Exchange) -> Failed:
    """A finding about several requests, in their order."""
    return Failed(_listed(each.sent for each in exchanges), _listed(each.received for each in exchanges), expected)


def _listed(texts: Iterable[str]) -> str:
    return "; then ".join(texts)
