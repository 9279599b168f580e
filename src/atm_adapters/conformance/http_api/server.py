"""The server under test: the argument of every check."""

from itertools import product
from typing import NamedTuple

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
    """A server, and two of its accounts. Checks that may ruin an account use the second."""

    api: Api
    first: AccountUnderTest
    second: AccountUnderTest
    declared: DeclaredFeatures


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
