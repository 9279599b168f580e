"""Fewer system calls for each answer.

uvicorn writes the head of an answer and its body one after the other, and uvloop sends each at once; the second
sending cost a third of a request (``benchmarks/NOTES.md``).
"""

import asyncio
from typing import Any


class JoiningTransport:
    """A transport that sends together what was written in one turn of the event loop.

    All else it leaves to the transport that it wraps.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._unsent: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send this before the next turn ends."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(data)

    def is_closing(self) -> bool:
        """Say whether nothing can be sent any more."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Send what was written, then close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))
