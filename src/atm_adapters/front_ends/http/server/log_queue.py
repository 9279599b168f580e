"""A log that never makes a request wait.

A write to standard error blocks while nothing reads it, such as a full pipe or a terminal after Ctrl-S. The event loop
would stop with it: a pipe of 64 KiB was full after 542 requests, and the server did not even react to SIGTERM.
"""

import logging
import os
import threading
import time
from collections import deque
from select import PIPE_BUF, select
from typing import Final

MAX_LINES: Final = 10_000
"""How many lines may wait to be written. Further lines are dropped and counted."""

FLUSH_SECONDS: Final = 2.0
"""How long the end of the process waits for lines to be written."""

_PAUSE_SECONDS: Final = 0.01
_STDERR: Final = 2


class QueuedStderrHandler(logging.Handler):
    """Writes to standard error from a thread, through a bounded queue."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[bytes] = deque()
        self._has_lines = threading.Event()
        self._is_writing = False
        self._dropped = 0
        # A daemon, because a thread that is stuck in a write must not keep the process alive.
        threading.Thread(target=self._write_lines, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or count it as dropped."""
        if len(self._lines) >= MAX_LINES:
            self._dropped += 1
            return
        try:
            if self._dropped:
                self._report_dropped()
            self._put(record)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all queued lines are written, or for ``FLUSH_SECONDS``."""
        if self._dropped:
            self._report_dropped()
        give_up_at = time.monotonic() + FLUSH_SECONDS
        while (self._lines or self._is_writing) and time.monotonic() < give_up_at:
            time.sleep(0.001)

    def _report_dropped(self) -> None:
        """Queue a line that stands for the dropped ones. The caller holds the handler's lock."""
        message = "%d lines of the log were dropped, because standard error was not read"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (self._dropped,), None)
        self._dropped = 0
        self.filter(record)
        self._put(record)

    def _put(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record).encode(errors="backslashreplace") + b"\n")
        if not self._has_lines.is_set():
            self._has_lines.set()

    def _write_lines(self) -> None:
        while self._has_lines.wait():
            # Threads that take turns after each line cost 30 microseconds of processor time for each request.
            time.sleep(_PAUSE_SECONDS)
            self._is_writing = True
            self._has_lines.clear()
            while self._lines:
                _write(self._next_lines())
            self._is_writing = False

    def _next_lines(self) -> bytes:
        """Return the next line, and those that can be written with it.

        The lines of several workers do not mix if each write has at most ``PIPE_BUF`` bytes.
        """
        lines = [self._lines.popleft()]
        size = len(lines[0])
        while self._lines and (size := size + len(self._lines[0])) <= PIPE_BUF:
            lines.append(self._lines.popleft())
        return b"".join(lines)


def _write(data: bytes) -> None:
    """Write to standard error, but not with ``sys.stderr``, whose lock the interpreter needs when it ends."""
    while data:
        try:
            data = data[os.write(_STDERR, data) :]
        except BlockingIOError:  # another program made the terminal non-blocking
            select([], [_STDERR], [])
        except OSError:  # closed, or the disk is full: there is no other place to report it
            return
