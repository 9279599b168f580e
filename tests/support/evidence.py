"""The types of the fixtures with which reliability tests choose their length and record their results."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

Rounds: TypeAlias = Callable[[int, int], int]
"""``rounds(short, full)`` returns the first number in an ordinary run, and the second with ``--full``."""


class Record(Protocol):
    """Adds a row to the reliability table, and fails the test if the promise was broken."""

    def __call__(self, promise: str, test: str, counts: dict[str, int], /, **failures: int) -> None:
        """Record the results of a test.

        :param promise: the promise in a few words.
        :param test: how the test tries to break the promise.
        :param counts: how much was done, such as ``{"kills": 100, "acknowledged": 9120}``.
        :param failures: counts that must be zero, such as ``lost=0, doubled=0``.
        """
