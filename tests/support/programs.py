"""Python programs that run in processes of their own."""

import subprocess
import sys

_WAIT_FOR_THE_OTHERS = """
import sys, atm_adapters.repositories.sqlite
print("ready", flush=True)
sys.stdin.readline()
"""

AS_OTHER_USER = """
import os, tenacity  # the other user may be unable to read modules
if os.geteuid() == 0:  # root ignores file permissions
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""
"""The beginning of a program that file permissions bind, also if the tests run as root."""


def begin_in_processes(count: int, program: str, *arguments: object) -> "list[subprocess.Popen[str]]":
    """Let several processes begin a Python program at the same time, when each has imported its modules."""
    processes = [
        subprocess.Popen(  # noqa: S603 - programs of the tests
            [sys.executable, "-c", _WAIT_FOR_THE_OTHERS + program, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return processes


def in_processes(count: int, program: str, *arguments: object) -> list[str]:
    """Run a Python program in several processes, which begin it at the same time, and return the output of each."""
    processes = begin_in_processes(count, program, *arguments)
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * count
    return outputs
