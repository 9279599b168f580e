"""The lower bound: a bare ASGI callable with floats in a dict, which checks nothing.

Usage: ``uvicorn --app-dir benchmarks/reference floor:app``
"""

from typing import Any

import msgspec


class Amount(msgspec.Struct):
    """The body of a deposit."""

    amount: float


class Account(msgspec.Struct):
    """The body of a response."""

    account_number: str
    balance: float


balances = {str(number): 1000.0 for number in range(1000)}
decode = msgspec.json.Decoder(Amount).decode
encode = msgspec.json.Encoder().encode


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer ``GET /accounts/0/balance`` and ``POST /accounts/0/deposit``. Other requests are treated like them."""
    if scope["type"] != "http":
        return
    number = scope["path"].split("/")[2]
    if scope["method"] == "POST":
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        balances[number] += decode(body).amount
    answer = encode(Account(number, balances[number]))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
