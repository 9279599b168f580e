"""Waiting for a condition, with a deadline."""

import threading
import time
from collections.abc import Callable


def until(condition: Callable[[], bool], *, seconds: float = 30, why: str = "") -> None:
    """Wait until the condition is true.

    :param why: the message of the error if it is not true in time.
    """
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, why
        threading.Event().wait(0.001)  # lets the test's other threads run
