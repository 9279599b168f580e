"""A program that opens a store, forks, and prints what the calls of the child return or raise.

Arguments: the name of a wrapper, or "none", and the URL of the store.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from atm_adapters import open_store
from atm_adapters.repositories.bridges import InlineBridge, ThreadPoolBridge
from atm_adapters.repositories.group_commit import GroupCommit, ThreadedGroupCommit
from atm_core import Account, AtmError, deposit, get_account, open_account, read_history

WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "none": lambda store: store,
    "GroupCommit": GroupCommit,
    "InlineBridge": InlineBridge,
    "ThreadPoolBridge": ThreadPoolBridge,
    "ThreadedGroupCommit": ThreadedGroupCommit,
}


def _run(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a blocking or an async store, and return the result or the error."""

    async def run() -> Any:
        result = call(*arguments)
        return await result if hasattr(result, "__await__") else result

    try:
        return _loop.run_until_complete(run())
    except AtmError as error:
        return error


def _calls_of_the_child(store: Any) -> list[Any]:
    outcomes = [_run(get_account, store, "0"), _run(deposit, store, "0", 1), _run(open_account, store, "2")]
    outcomes.append(_run(read_history, store, "0"))
    outcomes += [_run(getattr(store, name)) for name in ("durability", "count_accounts", "close") if name in dir(store)]
    if hasattr(store, "list_accounts"):
        outcomes.append(_run(store.list_accounts, "", 1))
    if hasattr(store, "audit"):
        outcomes.append(_run(lambda: list(store.audit())))
    return outcomes


if __name__ == "__main__":
    wrapper, url = sys.argv[1:]
    store = WRAPPERS[wrapper](open_store(url))
    _loop = asyncio.new_event_loop()
    assert _run(deposit, store, "0", 1) == Account("0", 1001)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # ends a child that hangs
        _loop = asyncio.new_event_loop()
        print(*_calls_of_the_child(store), sep="\n", flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert _run(deposit, store, "0", 1) == Account("0", 1002)
    _run(store.close)
