"""Whether this process lives and its store answers, for load balancers, orchestrators and who is woken at night."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

from litestar import get
from litestar.handlers import HTTPRouteHandler

from atm_adapters.capabilities import TellsDurabilityAwaitably
from atm_adapters.http.openapi import LiveOperation, ReadyOperation
from atm_core import Account, AccountNotFound, AccountRepository, StoreUnavailable, check_balance

READY_SECONDS = 2.0  # for the store to answer


def health_routes(accounts: AccountRepository[Awaitable[Account]]) -> list[HTTPRouteHandler]:
    """Make the route handlers that tell how these accounts are. What they answer with 200 is not logged."""

    @get("/health/live", operation_id="isLive", operation_class=LiveOperation)
    async def live_route() -> dict[str, object]:
        return {"status": "live"}

    @get("/health/ready", operation_id="isReady", operation_class=ReadyOperation)
    async def ready_route() -> dict[str, object]:
        durability = None
        try:
            async with asyncio.timeout(READY_SECONDS):
                with suppress(AccountNotFound):  # that is an answer, too
                    await check_balance(accounts, "0")
                if isinstance(accounts, TellsDurabilityAwaitably):
                    durability = await accounts.durability()
        except TimeoutError as error:
            raise StoreUnavailable("behind this server", f"it did not answer in {READY_SECONDS:g} seconds") from error
        if durability is None:
            return {"status": "ready"}
        return {
            "status": "ready",
            "store": durability.store,
            "durable": durability.durable,
            "settings": durability.settings,
        }

    return [live_route, ready_route]
