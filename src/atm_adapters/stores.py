"""From a URL to a repository. This is the one place that names concrete repositories.

Each of them, and the library it needs, is imported only when it is asked for.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from atm_adapters.capabilities import AwaitableStore, Store
from atm_core import Account, AtmError, StoreUnavailable

if TYPE_CHECKING:
    from atm_adapters.group_commit import CommitObserver

_SQLITE = "sqlite:///"
_HTTP = re.compile(r"https?://[^/?#]")
_HOST_AND_PORT = re.compile(r"[^/\\]+:[0-9]+(/|$)", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two characters or more, so that C:\accounts is a path

_USER_AND_PASSWORD = re.compile(r"^([^:]+:/*[^:/?@]*):.*@", re.DOTALL)  # up to the last @: it may be in a password
_SECRET_PARAMETER = re.compile(r"(?<=[?&])(?=[^=&?]*(?:pass|secret|key|%))([^=&?]*)=[^&]*", re.IGNORECASE)

KNOWN_STORES = (
    "memory:, a file path, sqlite:///path (sqlite:////path for an absolute one), postgresql://host/database, "
    "or http://host:port of a server"
)


class UnknownStore(AtmError):
    """A store was named in a way that says nothing here. ``url`` is what was given."""

    code = "unknown-store"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url

    def __str__(self) -> str:
        path = self.url.removeprefix(_SQLITE)
        shown, hint = without_password(self.url), ""
        if _HOST_AND_PORT.match(self.url):
            server = without_password(f"http://{self.url}")
            shown, hint = server.removeprefix("http://"), f" If it is a server, write {server}"
        elif path.endswith("/") and not _SCHEME.match(path):
            hint = " A path that ends in a slash is a folder: name a file in it."
        return f"{shown!a} is not a store. Known are: {KNOWN_STORES}.{hint}"


def open_store(url: str | None = None, *, must_exist: bool = False) -> Store:
    """Open the store that a URL names.

    A store that is opened for the first time is given accounts "0" and "1" with 1000.00 each; one
    that was opened before is left as it is.

    :param url: ``memory:``, a file path, or ``sqlite:///path``, where three slashes are followed by a
        relative path and four by an absolute one, as in SQLAlchemy's URLs; ``postgresql://`` with
        everything that libpq knows in it; or ``http://host:port`` of a server, which is not asked
        before it is used. None means :func:`default_store`.
    :param must_exist: whether a SQLite file that does not exist is refused instead of made.
    :raises UnknownStore: if the URL is none of these.
    :raises StoreUnavailable: if the store can't be opened, with the reason.
    """
    url = default_store() if url is None else url
    kind = kind_of_store(url)
    opening_accounts = [Account("0", 1000), Account("1", 1000)]
    if kind == "memory":
        from atm_adapters.repositories.memory import InMemoryAccountRepository

        return InMemoryAccountRepository(opening_accounts)

    if kind == "postgresql":
        name = without_password(url)
        try:
            from atm_adapters.repositories.postgres import PostgresAccountRepository
        except ImportError as error:
            raise StoreUnavailable(
                name, "it needs an extra; install it with: pip install 'mini-atm[postgres]'"
            ) from error
        return PostgresAccountRepository(url, opening_accounts, name=name)

    if kind == "remote":
        from atm_adapters.repositories.remote import RemoteAccountRepository

        return RemoteAccountRepository(url, name=without_password(url))

    from atm_adapters.repositories.sqlite import SqliteAccountRepository

    path = url.removeprefix(_SQLITE)
    if must_exist and not os.path.exists(path):  # noqa: PTH110 - answers whatever the path; Path's may raise
        raise StoreUnavailable(path, "there is no such file")
    return SqliteAccountRepository(path, opening_accounts)


def kind_of_store(url: str) -> Literal["memory", "postgresql", "remote", "sqlite"]:
    """Tell from a URL, as :func:`open_store` takes it, which kind of store it names. Nothing is opened.

    :raises UnknownStore: if it names none.
    """
    if url == "memory:":
        return "memory"
    if "\0" in url:
        raise UnknownStore(url)
    if url.startswith(("postgresql://", "postgres://")):
        return "postgresql"
    if _HTTP.match(url):
        return "remote"
    path = url.removeprefix(_SQLITE)
    is_no_file = not path or path.startswith(":") or path.endswith("/")
    if is_no_file or (path == url and (_SCHEME.match(url) or _HOST_AND_PORT.match(url))):
        raise UnknownStore(url)
    return "sqlite"


def open_awaitable_store(url: str | None = None, *, observer: "CommitObserver | None" = None) -> AwaitableStore:
    """Open a store as :func:`open_store` does, for callers on an event loop. To open it may block for a moment.

    :param observer: is told of every commit that callers share.
    :raises UnknownStore: as :func:`open_store`; ``StoreUnavailable`` too.
    """
    from atm_adapters.group_commit import BatchRepository, GroupCommit, Immediate, InThreads

    url = default_store() if url is None else url
    store = open_store(url)
    if isinstance(store, BatchRepository):
        return GroupCommit(store, observer=observer)
    return Immediate(store) if kind_of_store(url) == "memory" else InThreads(store)


def without_password(url: str) -> str:
    """The URL as it may be shown: with asterisks for a password."""
    return _SECRET_PARAMETER.sub(r"\1=***", _USER_AND_PASSWORD.sub(r"\1:***@", url))


def default_store() -> str:
    """Name the store that every front end uses unless it is told otherwise.

    :returns: the value of ``ATM_STORE`` if it is set, else the path of a SQLite file in the user's
        data folder, which is made if it does not exist.
    :raises StoreUnavailable: if that folder can't be made.
    """
    if named := os.environ.get("ATM_STORE"):
        return named
    from platformdirs import user_data_path

    try:
        folder: Path = user_data_path("mini-atm", appauthor=False)
    except RuntimeError as error:  # neither the environment nor the system knows a home
        raise StoreUnavailable("in your user data folder", "you have no home folder; name a store") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(str(folder), f"the folder can't be made ({error.strerror})") from error
    return str(folder / "accounts.sqlite3")
