"""The server under check: what a check is given."""

from typing import NamedTuple

from atm_adapters.api_check.account import AccountUnderCheck
from atm_adapters.api_check.client import Api

# Where Mini-ATM and FastAPI serve it, and where Litestar does unless told otherwise.
_PATHS = ("/openapi.json", "/schema/openapi.json")
_PROBLEM = "application/problem+json"


class Announced(NamedTuple):
    """What a server says of itself in its OpenAPI document; nothing if it has none.

    What it announces and does not do is a failure. What it neither announces nor does is not supported.
    """

    keys: bool = False  # an Idempotency-Key
    problems: bool = False  # errors as RFC 9457 writes them
    media_types: bool = False  # 415 for bodies that are not JSON


class Server(NamedTuple):
    """A server, and two accounts of it. Amounts that might ruin an account go to the second."""

    api: Api
    first: AccountUnderCheck
    second: AccountUnderCheck
    announced: Announced


async def read_announced(api: Api) -> Announced:
    """Look for the server's OpenAPI document, below its URL and at the root of its host, and read what it announces."""
    for path in _PATHS:
        for of_host in (False, True):
            exchange = await api.get(path, of_host=of_host)
            try:
                document = exchange.json() if exchange.status == 200 else None
            except ValueError:
                continue
            if isinstance(document, dict) and "openapi" in document:
                return _announced(document)
    return Announced()


def _announced(document: object) -> Announced:
    keys = problems = media_types = False
    left = [document]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            keys = keys or (node.get("in") == "header" and str(node.get("name")).lower() == "idempotency-key")
            problems = problems or _PROBLEM in node
            media_types = media_types or "415" in node
            left += node.values()
        elif isinstance(node, list):
            left += node
    return Announced(keys, problems, media_types)
