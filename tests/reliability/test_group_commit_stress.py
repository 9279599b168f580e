"""Concurrent threads that share commits are all answered."""

from support.evidence import Record, Rounds
from support.group_commit_stress import CALLS_PER_ROUND, unanswered_calls


def test_threads_that_share_commits_are_all_answered(rounds: Rounds, record: Record) -> None:
    count = rounds(10, 1_000)
    record(
        "Group commit answers every caller",
        "8 threads that switch at random lines of its code",
        {"rounds": count, "calls": count * CALLS_PER_ROUND},
        unanswered=unanswered_calls(count),
    )
