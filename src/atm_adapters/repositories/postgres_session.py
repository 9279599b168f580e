"""Work with a PostgreSQL database that may be unreachable for a while: connections, retries and error translation."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Diagnostic
from psycopg_pool import ConnectionPool
from tenacity import Retrying, retry_if_exception, wait_random_exponential

from atm_core import StoreUnavailable

T = TypeVar("T")
Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

# Only the options that limit how long a dead server blocks a caller. Options in the URL take precedence.
_LIBPQ_DEFAULTS: Final = {
    "connect_timeout": "5",
    "target_session_attrs": "read-write",  # of several hosts, not a standby, whose reads would be stale
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_MAX_CONNECTIONS: Final = 8
_MAX_PAUSE: Final = 0.5
_PAUSE: Final = wait_random_exponential(multiplier=0.002, max=_MAX_PAUSE)


class PostgresSession:
    """A connection pool whose work is retried while the database is unreachable.

    :param url: as for :class:`~atm_adapters.repositories.postgres.PostgresAccountRepository`.
    :param name: the store's name in error messages, without a password.
    :param retry_timeout: seconds of retries before a call fails.
    :param configure: called with each new connection of the pool.
    :raises StoreUnavailable: if libpq does not accept the URL.
    """

    def __init__(self, url: str, *, name: str, retry_timeout: float, configure: Callable[[Connection], None]) -> None:
        self._name = name
        self._retry_timeout = retry_timeout
        self._outage = _Outage()
        self._in_use: set[Connection] = set()
        self._in_use_lock = Lock()
        with self._translate_errors():
            try:
                given = conninfo_to_dict(url)
            except psycopg.ProgrammingError:  # whose text may contain a part of the password
                raise StoreUnavailable(name, "libpq does not understand this URL") from None
            missing = {option: value for option, value in _LIBPQ_DEFAULTS.items() if option not in given}
            self._conninfo = make_conninfo(url, **missing)
        self._pool = ConnectionPool(
            self._conninfo,
            min_size=1,
            max_size=_MAX_CONNECTIONS,
            kwargs={"autocommit": True},
            configure=configure,
            reconnect_timeout=1.0,  # after that, the pool tries again as soon as a connection is requested
            open=False,
        )

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """Open a connection outside of the pool, without retries."""
        with self._translate_errors(), psycopg.connect(self._conninfo, autocommit=autocommit) as connection:
            yield connection

    def open(self) -> None:
        """Start the pool."""
        self._pool.open()

    def close(self) -> None:
        """Close all connections. Work under way fails, and further work raises ``StoreUnavailable``."""
        self._pool.close()
        with self._in_use_lock:
            for connection in self._in_use:
                _abort(connection)

    def deadline(self) -> float:
        """Return the monotonic time until which a call that begins now retries. Concurrent callers share it."""
        return self._outage.began() + self._retry_timeout

    def run_with_retries(self, work: Callable[[Connection], T], deadline: float | None = None) -> T:
        """Run work that may be repeated, and repeat it while the database is unreachable or asks for it.

        :param work: receives a connection.
        :param deadline: as :meth:`deadline` returns it. None means a new one.
        :raises StoreUnavailable: if the work still fails at the deadline, or fails for another reason.
        """
        until = self.deadline() if deadline is None else deadline
        retrying = Retrying(
            retry=retry_if_exception(self._is_transient),
            stop=lambda _: self._pool.closed or time.monotonic() >= until,
            wait=_PAUSE,
            reraise=True,
        )
        with self._translate_errors():
            result: T = retrying(self._run, work, until)
            return result

    def _run(self, work: Callable[[Connection], T], deadline: float) -> T:
        with self._connection(deadline) as connection:
            result = work(connection)
        self._outage.end()
        return result

    def _is_transient(self, error: BaseException) -> bool:
        if isinstance(error, errors.SerializationFailure | errors.DeadlockDetected):
            return True
        is_outage = isinstance(error, psycopg.OperationalError | errors.ReadOnlySqlTransaction)
        if not is_outage or isinstance(error, errors.LockNotAvailable):
            return False
        self._outage.notice()
        return True

    @contextmanager
    def _connection(self, deadline: float) -> Iterator[Connection]:
        # A short timeout, because a pool that gave up starts again only when a connection is requested.
        timeout = min(_MAX_PAUSE, max(0.01, deadline - time.monotonic()))
        # Not pool.connection(), which commits on exit and raises if it cannot. That would hide an answer.
        connection = self._pool.getconn(timeout)
        with self._in_use_lock:
            self._in_use.add(connection)
            if self._pool.closed:
                _abort(connection)
        try:
            yield connection
        except errors.ReadOnlySqlTransaction:  # a former primary: make the pool connect to the present one
            connection.close()
            raise
        finally:
            with self._in_use_lock:
                self._in_use.remove(connection)
            self._pool.putconn(connection)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except errors.LockNotAvailable as error:
            raise StoreUnavailable(self._name, "another session keeps the account locked") from error
        except (psycopg.Error, UnicodeError) as error:
            raise StoreUnavailable(self._name, _reason(error)) from error


class _Outage:
    """The time at which the database became unreachable, so that concurrent callers share one retry deadline."""

    def __init__(self) -> None:
        self._began = self._last_noticed = float("-inf")

    def notice(self) -> None:
        """Note that the database is unreachable."""
        now = time.monotonic()
        if now - self._last_noticed > 2 * _MAX_PAUSE:
            self._began = now
        self._last_noticed = now

    def end(self) -> None:
        """Note that the database has answered."""
        self._last_noticed = float("-inf")

    def began(self) -> float:
        """Return the monotonic time at which the present outage began, or now if there is none."""
        now = time.monotonic()
        return self._began if now - self._last_noticed <= 2 * _MAX_PAUSE else now


@contextmanager
def warnings_as_errors(connection: Connection) -> Iterator[None]:
    """Raise the database's warnings. A COMMIT that stops waiting for a synchronous standby only warns."""
    warnings: list[str | None] = []

    def collect(notice: Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(notice.message_primary)

    connection.add_notice_handler(collect)
    try:
        yield
    finally:
        connection.remove_notice_handler(collect)
    if warnings:
        raise psycopg.OperationalError(f"the database warned: {warnings[0]}")


def is_in_doubt(error: psycopg.Error) -> bool:
    """Return whether a commit that failed with this error may have succeeded."""
    # After an ERROR the server goes on and knows the outcome. After a FATAL, COMMIT may have been executed already.
    return error.sqlstate == "40003" or error.diag.severity_nonlocalized != "ERROR"


def _abort(connection: Connection) -> None:
    """End the operation that the connection waits for, in any thread."""
    with suppress(psycopg.Error, OSError):  # it has ended by itself
        own = socket.socket(fileno=connection.fileno())
        try:
            own.shutdown(socket.SHUT_RDWR)
        finally:
            own.detach()  # the file descriptor still belongs to the connection


def _reason(error: Exception) -> str:
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return " ".join((primary or str(error)).split()).rstrip(".")
