"""From a store URL to a repository. This is the only module that names concrete repositories.

Each repository, and the library that it needs, is imported when a URL asks for it.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeGuard

from atm_adapters.wire.errors import UnknownStore
from atm_core import Account, StoreNotInitialized, StoreUnavailable
from atm_core.ports import AsyncStore, BatchRepository, CommitObserver, Store

StoreKind: TypeAlias = Literal["memory", "postgresql", "remote", "sqlite"]

STORE_URL_HELP: Final = (
    "memory:, a file path, sqlite:///path (sqlite:////path for an absolute one), postgresql://host/database, "
    "or http://host:port of a server"
)

DEMO_ACCOUNTS: Final = (Account("0", 1000), Account("1", 1000))
"""The accounts that a store in memory and the default file begin with."""

_SQLITE = "sqlite:///"
_HTTP = re.compile(r"https?://[^/?#]")
_HOST_AND_PORT = re.compile(r"[^/\\]+:[0-9]+(/|$)", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # at least two characters, because C:\accounts is a path

# From the first colon of the user to the last @, because both may contain every other character unescaped.
_PASSWORD = re.compile(r"[^:]+:/*[^:]*:(?P<secret>.*)@", re.DOTALL)
_SECRET_PARAMETER = re.compile(r"(?<=[?&])(?=[^=&?]*(?:pass|secret|key|%))[^=&?]*=(?P<secret>[^&]*)", re.IGNORECASE)
# An unescaped character of a password that libpq or httpx would take for the end of the password or of the host.
_AMBIGUOUS = re.compile(r"postgres(?:ql)?://(?:[^/@]*@[^/?]*@|[^/]*/[^?]*@)|https?://[^/?#]*[/?#].*@", re.DOTALL)


def open_store(url: str | None = None, *, create: bool | None = None) -> Store:
    """Open a store for blocking callers. A ``with`` statement closes it.

    A store in memory and the default file exist by themselves, and begin with the accounts "0" and "1" with 1000.00
    each. The default file is upgraded when it is opened. Every other store is made and upgraded on purpose, with
    :func:`init_store`, the command ``atm init``, or ``create``.

    :param url: ``memory:``, a file path, ``sqlite:///path`` (SQLAlchemy's convention: three slashes before a
        relative path, four for an absolute one), ``postgresql://`` with everything that libpq accepts, or
        ``http://host:port`` of a server, which is not contacted before it is used. The variable ``ATM_TOKEN`` holds
        the access token for a server. None means :func:`default_store_url`.
    :param create: create the store, without accounts, if it does not exist, and upgrade its schema if it is old. None
        does so for the default file only, and False never.
    :raises UnknownStore: if the URL has none of these forms.
    :raises StoreNotInitialized: if the store does not exist or has an older schema.
    :raises StoreUnavailable: if the store cannot be opened. Its ``reason`` says why.
    """
    url = default_store_url() if url is None else url
    try:
        return _open(url)
    except StoreNotInitialized as error:
        if create is False:
            raise
        if create or is_default_file(url):
            return _create(url)
        advice = f"to {'upgrade' if error.schema_version else 'create'} it, run: atm init{store_option(url)}"
        raise StoreNotInitialized(error.store, f"{error.reason} ({advice})", error.schema_version) from error


def init_store(url: str | None = None) -> int | None:
    """Create a store as :func:`open_store` does with ``create``, and close it.

    :returns: the version of the schema that was upgraded, 0 if the store was created, or None if nothing changed.
    """
    url = default_store_url() if url is None else url
    try:
        _open(url).close()
    except StoreNotInitialized as error:
        _create(url).close()
        return error.schema_version
    return None


def _create(url: str) -> Store:
    """Open a store, after creating it or upgrading its schema."""
    return _open(url, DEMO_ACCOUNTS if is_default_file(url) else ())


def _open(url: str, initial_accounts: Iterable[Account] | None = None) -> Store:
    """Open a store.

    :param initial_accounts: the accounts of a new store. None means that the store must exist with the schema of this
        release. Otherwise it is created or upgraded.
    """
    kind = store_kind(url)
    if _AMBIGUOUS.match(url):
        raise StoreUnavailable(
            redact_url(url),
            "its password or another part has an unescaped @ or /; write %40 for @, %2F for /, %3F for ? and %23 for #",
        )
    if kind == "memory":
        from atm_adapters.repositories.memory import InMemoryAccountRepository

        return InMemoryAccountRepository(DEMO_ACCOUNTS)

    if kind == "postgresql":
        name = redact_url(url)
        try:
            from atm_adapters.repositories.postgres import PostgresAccountRepository
        except ImportError as error:
            raise StoreUnavailable(
                name, "it needs the package psycopg; install it with: pip install 'psycopg[binary,pool]'"
            ) from error
        return PostgresAccountRepository(url, initial_accounts, name=name)

    if kind == "remote":
        from atm_adapters.repositories.remote import RemoteAccountRepository

        return RemoteAccountRepository(url, name=redact_url(url), token=access_token())

    from atm_adapters.repositories.sqlite import SqliteAccountRepository

    return SqliteAccountRepository(url.removeprefix(_SQLITE), initial_accounts)


def open_threaded_store(url: str | None = None, *, create: bool | None = None) -> Store:
    """Open a store for threads, which share commits where a commit costs a sync of the disk or a round trip.

    :param url: as for :func:`open_store`, like ``create``.
    :raises UnknownStore: as :func:`open_store` does. The same holds for ``StoreUnavailable``.
    """
    from atm_adapters.repositories.group_commit import ThreadedGroupCommit

    url = default_store_url() if url is None else url
    store = open_store(url, create=create)
    return ThreadedGroupCommit(store) if _shares_commits(store, url) else store


def open_async_store(
    url: str | None = None, *, create: bool | None = None, observer: CommitObserver | None = None
) -> AsyncStore:
    """Open a store for callers on one event loop. Opening may block for a moment.

    :param url: as for :func:`open_store`, like ``create``.
    :param observer: receives an event for every commit that callers share.
    :raises UnknownStore: as :func:`open_store` does. The same holds for ``StoreUnavailable``.
    """
    from atm_adapters.repositories.bridges import InlineBridge, ThreadPoolBridge
    from atm_adapters.repositories.group_commit import GroupCommit

    url = default_store_url() if url is None else url
    store = open_store(url, create=create)
    if _shares_commits(store, url):
        return GroupCommit(store, observer=observer)
    return InlineBridge(store) if store_kind(url) == "memory" else ThreadPoolBridge(store)


def _shares_commits(store: Store, url: str) -> TypeGuard[BatchRepository]:
    """Return whether callers of the store should share commits. In memory, a commit costs nothing."""
    return isinstance(store, BatchRepository) and store_kind(url) != "memory"


def store_kind(url: str) -> StoreKind:
    """Return the kind of store that a URL names, without opening it.

    :raises UnknownStore: if the URL has none of the forms that :func:`open_store` accepts.
    """
    if url == "memory:":
        return "memory"
    if "\0" in url:
        raise _unknown(url)
    if url.startswith(("postgresql://", "postgres://")):
        return "postgresql"
    if _HTTP.match(url):
        return "remote"
    path = url.removeprefix(_SQLITE)
    is_no_file = not path or path.startswith(":") or path.endswith("/")
    if is_no_file or (path == url and (_SCHEME.match(url) or _HOST_AND_PORT.match(url))):
        raise _unknown(url)
    return "sqlite"


def _unknown(url: str) -> UnknownStore:
    """Return the error for a URL of no known form, with a hint if a likely meaning can be guessed."""
    path = url.removeprefix(_SQLITE)
    shown, hint = redact_url(url), ""
    if _HOST_AND_PORT.match(url):
        server = redact_url(f"http://{url}")
        shown, hint = server.removeprefix("http://"), f" If it is a server, write {server}"
    elif path.endswith("/") and not _SCHEME.match(path):
        hint = " A path that ends in a slash is a folder. Name a file in it."
    return UnknownStore(shown, f"Use {STORE_URL_HELP}.{hint}")


def redact_url(url: str) -> str:
    """Return the URL with asterisks instead of a password."""
    spans = [found.span("secret") for found in _SECRET_PARAMETER.finditer(url)]
    if password := _PASSWORD.match(url):
        spans.append(password.span("secret"))
    shown, end = "", 0
    for begin, secret_end in sorted(spans):  # they overlap if a password contains ?, or a parameter contains @
        if begin >= end:
            shown += url[end:begin] + "***"
        end = max(end, secret_end)
    return shown + url[end:]


def access_token() -> str | None:
    """Return the access token for servers, the value of ``ATM_TOKEN``, or None if it is not set or empty."""
    return os.environ.get("ATM_TOKEN") or None


def store_option(url: str | None) -> str:
    """Return the option that names the same store in a command, without its password, with a leading space.

    It is empty for the store that commands use without an option.
    """
    if url is None or url == os.environ.get("ATM_STORE"):
        return ""
    from shlex import quote

    return f" --store {quote(redact_url(url))}"


def default_store_url() -> str:
    """Return the URL of the store that front ends use by default.

    :returns: the value of ``ATM_STORE`` if it is set, otherwise the path of the default file: a SQLite file in the
        user data folder. The folder is created if it does not exist.
    :raises StoreUnavailable: if that folder cannot be created.
    """
    if url := os.environ.get("ATM_STORE"):
        return url
    file = _default_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(str(file.parent), f"the folder cannot be created ({error.strerror})") from error
    return str(file)


def _default_file() -> Path:
    from platformdirs import user_data_path

    try:
        return user_data_path("mini-atm", appauthor=False) / "accounts.sqlite3"
    except RuntimeError as error:  # neither the environment nor the system knows a home folder
        raise StoreUnavailable("in your user data folder", "you have no home folder; name a store") from error


def is_default_file(url: str) -> bool:
    """Return whether a URL names the default file, which :func:`open_store` creates with accounts."""
    if store_kind(url) != "sqlite":
        return False
    try:
        return Path(url.removeprefix(_SQLITE)) == _default_file()
    except StoreUnavailable:
        return False
