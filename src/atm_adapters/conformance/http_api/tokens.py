"""The check of a server that asks for access tokens."""

from typing import Final

from atm_adapters.conformance.http_api.account import mismatch
from atm_adapters.conformance.http_api.client import JSON, Api, Header, NotSupported
from atm_adapters.conformance.http_api.server import Server

_UNAUTHORIZED: Final = 401
_INVALID: Final = (
    "", "Bearer", "Bearer x", f"Bearer {'x' * 5000}", "Bearer a b", f"Bearer atm_{'0' * 8}_{'0' * 64}",
    f"bearer atm_{'f' * 8}_{'f' * 64}", "Basic YTpi", "Basic", "Digest username=x", f"Token atm_{'0' * 8}_{'0' * 64}",
    f"atm_{'0' * 8}_{'0' * 64}",
)  # fmt: skip
_AUTHORIZATIONS: Final[tuple[list[Header], ...]] = ([], *([("Authorization", value)] for value in _INVALID))


async def invalid_tokens_are_rejected(server: Server) -> None:
    """Read, deposit and open an account without a token, and with values of ``Authorization`` that are no valid token.

    Each must be answered with 401 and a challenge (RFC 6750, section 3), and change nothing. It must not show whether
    an account exists.
    """
    before = await server.first.balance()
    path, unknown = f"/accounts/{server.first.number}", f"/accounts/{server.unused_number()}"
    async with Api(server.api.url) as stranger:
        if (await stranger.get(f"{path}/balance")).status != _UNAUTHORIZED:
            raise NotSupported("requests without an access token are accepted")
        server.first.was_modified = True
        for headers in _AUTHORIZATIONS:
            for exchange in (
                await stranger.get(f"{path}/balance", *headers),
                await stranger.get(f"{unknown}/balance", *headers),
                await stranger.post(f"{path}/deposit", b'{"amount": 5}', JSON, *headers),
                await stranger.post(f"{path}/deposit", b"{", JSON, *headers),
                await stranger.post("/accounts", b'{"account_number": "x", "balance": ', JSON, *headers),
            ):
                if exchange.status != _UNAUTHORIZED or not exchange.challenge.lower().startswith("bearer"):
                    raise mismatch(
                        "401 with WWW-Authenticate: Bearer, because the request has no valid access token", exchange
                    )
    await server.first.assert_balance(before, exchange)
