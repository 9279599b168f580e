"""Health checks for load balancers, orchestrators and monitoring."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from atm_adapters.front_ends.http.access import AccessGuard, may_monitor
from atm_adapters.front_ends.http.openapi import IS_LIVE, IS_READY
from atm_adapters.front_ends.http.problems import store_refused
from atm_adapters.wire.errors import NotAllowed, NotAuthenticated
from atm_core import Account, AccountNotFound, AccountRepository, StoreUnavailable, get_account
from atm_core.ports import ReportsDurability

READY_SECONDS: Final = 2.0
"""How long the readiness check waits for the store."""


def health_routes(accounts: AccountRepository[Awaitable[Account]], guard: AccessGuard | None) -> list[HTTPRouteHandler]:
    """Return the route handlers of the health checks. Successful checks are not logged.

    :param guard: if there is one, facts about the store are only for tokens that may monitor.
    """

    @get("/health/live", operation_id="isLive", operation_class=IS_LIVE, opt={"may": None})
    async def is_live() -> dict[str, object]:
        return {"status": "live"}

    @get("/health/ready", operation_id="isReady", operation_class=IS_READY, opt={"may": None})
    async def is_ready(request: Request[Any, Any, Any]) -> dict[str, object]:
        durability = None
        try:
            async with asyncio.timeout(READY_SECONDS):
                with suppress(AccountNotFound, NotAllowed):  # the store answered, so it is ready
                    await get_account(accounts, "0")
                if isinstance(accounts, ReportsDurability):
                    durability = await accounts.durability()
        except TimeoutError as error:
            raise StoreUnavailable("of this server", f"it did not answer in {READY_SECONDS:g} seconds") from error
        except NotAuthenticated as error:
            raise store_refused(error) from error
        status: dict[str, object] = {"status": "ready"}
        if guard is not None:
            status["tokens"] = "current" if guard.is_current() else "outdated"
        if durability is not None and may_monitor(request):
            status |= asdict(durability)
        return status

    return [is_live, is_ready]
