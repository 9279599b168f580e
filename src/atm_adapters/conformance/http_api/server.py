"""The server under test: the argument of every check."""

from itertools import product
from secrets import randbelow
from typing import NamedTuple
from uuid import uuid4

from atm_adapters.conformance.http_api.account import AccountUnderTest
from atm_adapters.conformance.http_api.client import Api
from atm_adapters.wire.problem_document import PROBLEM_JSON

# The first is the path of Mini-ATM and of FastAPI, the second is Litestar's default.
_PATHS = ("/openapi.json", "/schema/openapi.json")


class DeclaredFeatures(NamedTuple):
    """Optional features that the server's OpenAPI document declares.

    A check fails if a declared feature is missing. It reports an undeclared one as not supported.
    """

    idempotency_keys: bool = False
    problem_documents: bool = False
    media_types: bool = False  # 415 for bodies other than JSON


class Server(NamedTuple):
    """A server, and two of its accounts. Checks that may ruin an account use the second.

    ``third`` does not exist until a check opens it.
    """

    api: Api
    first: AccountUnderTest
    second: AccountUnderTest
    third: AccountUnderTest
    declared: DeclaredFeatures

    def unused_number(self) -> str:
        """Return a new account number."""
        return unused_number(self.first.number, self.second.number)


def unused_number(*numbers: str) -> str:
    """Return a random account number. It is a decimal number if the others are, as a server may require."""
    if all(number.isdecimal() for number in numbers):
        return str(1_000_000_000 + randbelow(1_000_000_000))
    return f"no-such-account-{uuid4().hex}"


async def read_declared_features(api: Api) -> DeclaredFeatures:
    """Return the features that the OpenAPI document declares. It may be below the URL or at the root of its host."""
    for path, from_root in product(_PATHS, (False, True)):
        exchange = await api.get(path, from_root=from_root)
        try:
            document = exchange.json() if exchange.status == 200 else None
        except ValueError:
            continue
        if isinstance(document, dict) and "openapi" in document:
            return _features(document)
    return DeclaredFeatures()


def _features(document: object) -> DeclaredFeatures:
    keys = problems = media_types = False
    nodes = [document]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            keys = keys or (node.get("in") == "header" and str(node.get("name")).lower() == "idempotency-key")
            problems = problems or PROBLEM_JSON in node
            media_types = media_types or "415" in node
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
    return DeclaredFeatures(keys, problems, media_types)
