"""What the reliability tests are given, to count with."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

Often: TypeAlias = Callable[[int, int], int]
"""``often(in_the_ordinary_tests, in_a_full_run)``"""


class Record(Protocol):
    """Puts a line into the table, and fails the test if the promise was broken even once."""

    def __call__(self, promise: str, tried_by: str, how_often: dict[str, int], /, **broken: int) -> None:
        """Record what was counted.

        :param promise: what is promised, in a few words.
        :param tried_by: what was done to break it.
        :param how_often: what was counted on the way, such as ``{"kills": 100, "deposits acknowledged": 9120}``.
        :param broken: what must be zero, such as ``lost=0, doubled=0``.
        """
