"""One system call for each answer instead of two.

uvicorn writes the head and the body of an answer separately, and uvloop sends each write at once. The second
write costs a third of a request (``benchmarks/NOTES.md``).
"""

import asyncio
from typing import Any


class CoalescingTransport:
    """A transport that joins all writes of one turn of the event loop. It delegates everything else."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._unsent: list[bytes] = []
        self._has_ended = False
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the data at the end of this turn of the event loop."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(data)

    def write_eof(self) -> None:
        """Send what was written, then tell the client that nothing follows. Later writes are ignored."""
        self._send()
        self._has_ended = True
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        """Send what was written, then close the transport."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self._has_ended and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))
