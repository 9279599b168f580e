"""Waiting for something to become so, with a deadline."""

import threading
import time
from collections.abc import Callable


def until(condition: Callable[[], bool], *, seconds: float = 30, why: str = "") -> None:
    """Ask again and again until something is so.

    :param why: what to say if it does not become so in time.
    """
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, why
        threading.Event().wait(0.001)  # lets the other threads of the test go on
