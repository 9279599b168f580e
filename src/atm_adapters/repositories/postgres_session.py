"""Work with a PostgreSQL database that may be unreachable for a while: connections, retries and error translation."""

import socket
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout
from tenacity import Retrying, retry_if_exception, wait_random_exponential

from atm_adapters.repositories.ownership import ProcessGuard
from atm_adapters.repositories.sql_rows import DamagedRow
from atm_core import Account, AtmError, StoreUnavailable

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
_STRICTER_SETTINGS = """
SELECT set_config(name, strict, false) FROM (VALUES
    ('synchronous_commit', 'off', 'on'),
    ('lock_timeout', '0', '5s'),
    ('idle_in_transaction_session_timeout', '0', '10s')
) AS weak (name, setting, strict) WHERE current_setting(name) = setting
"""
# While a table grows, its statistics are missing or old, and the planner chooses to read all of it. It also plans each
# look-up of keys again. Together they made the server's part of 32 deposits with keys four times as long. No call needs
# more than index look-ups.
_PLANS_BY_INDEX = """
SELECT set_config(name, setting, false) FROM (VALUES
    ('enable_seqscan', 'off'),
    ('enable_hashjoin', 'off'),
    ('enable_mergejoin', 'off'),
    ('plan_cache_mode', 'force_generic_plan'),
    ('jit', 'off')
) AS plan (name, setting)
"""
_MAX_CONNECTIONS: Final = 8
_MAX_PAUSE: Final = 0.5
_MARGIN: Final = 2.0
"""Seconds after the retry deadline at which a call that still waits for the database is aborted."""
_WATCH_INTERVAL: Final = 0.25
_PAUSE: Final = wait_random_exponential(multiplier=0.002, max=_MAX_PAUSE)


class PostgresSession:
    """A connection pool whose work is retried while the database is unreachable, and aborted if it takes too long.

    A database whose processes are frozen keeps its connections but never answers. A thread of the session therefore
    aborts the connections of calls that are past their deadline.

    :param url: as for :class:`~atm_adapters.repositories.postgres.PostgresAccountRepository`.
    :param name: the store's name in error messages, without a password.
    :param retry_timeout: seconds of retries before a call fails.
    :raises StoreUnavailable: if libpq does not accept the URL.
    """

    def __init__(self, url: str, *, name: str, retry_timeout: float) -> None:
        self._name = name
        self._retry_timeout = retry_timeout
        self._outage = _Outage()
        self._process = ProcessGuard(name)
        self._in_use: set[_Call] = set()
        self._in_use_lock = Lock()
        self._closed = Event()
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
            configure=self._configure,
            reconnect_timeout=1.0,  # after that, the pool tries again as soon as a connection is requested
            open=False,
        )

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """Open a connection outside of the pool, without retries, and without a deadline except in :meth:`limited`.

        What the block does not commit is rolled back.

        :raises StoreUnavailable: if opening it or the block fails.
        """
        self._process.check()
        with self._translate_errors(), closing(psycopg.connect(self._conninfo, autocommit=autocommit)) as connection:
            yield connection

    def open(self, prepare: Callable[[Connection], None]) -> None:
        """Prepare the database with a connection of its own, then start the pool.

        :param prepare: limits itself how long it may take.
        :raises StoreUnavailable: if that fails.
        """
        Thread(target=_watch, args=(weakref.ref(self), self._closed), name="postgres-deadlines", daemon=True).start()
        try:
            with self.connect(autocommit=True) as connection:
                prepare(connection)
        except BaseException:
            self.close()
            raise
        self._pool.open()

    def close(self) -> None:
        """Close all connections. Work under way fails, and further work raises ``StoreUnavailable``."""
        self._process.check()
        self._pool.close()
        with self._in_use_lock:
            self._closed.set()
            for call in self._in_use:
                _abort(call.connection)

    def abort_late_calls(self) -> None:
        """Abort the connections of calls that are past their deadline."""
        now = time.monotonic()
        with self._in_use_lock:
            for call in self._in_use:
                if call.abort_at <= now and not call.is_aborted:
                    call.is_aborted = True
                    _abort(call.connection)

    def deadline(self) -> float:
        """Return the monotonic time until which a call that begins now retries. Concurrent callers share it."""
        return self._outage.began() + self._retry_timeout

    def run_with_retries(self, work: Callable[[Connection], T], deadline: float | None = None) -> T:
        """Run work that may be repeated, and repeat it while the database is unreachable or asks for it.

        Two seconds after the deadline, the connection is aborted if the database has not answered.

        :param work: receives a connection.
        :param deadline: as :meth:`deadline` returns it. None means a new one.
        :raises StoreUnavailable: if the work still fails at the deadline, or fails for another reason.
        """
        self._process.check()
        until = self.deadline() if deadline is None else deadline
        with self._translate_errors():
            try:
                return self._run(work, until)
            except psycopg.Error as error:
                if not self._is_transient(error) or self._must_stop(until):
                    raise
            # Only now, because tenacity makes a look-up half as fast.
            result: T = Retrying(
                retry=retry_if_exception(self._is_transient),
                stop=lambda _: self._must_stop(until),
                wait=_PAUSE,
                reraise=True,
            )(self._run, work, until)
            return result

    def _must_stop(self, deadline: float) -> bool:
        return self._pool.closed or time.monotonic() >= deadline

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
        try:
            with self.limited(connection, max(0.0, deadline - time.monotonic())) as call:
                try:
                    yield connection
                except BaseException:
                    _roll_back(connection)  # here, because the pool would do it without a deadline
                    raise
                finally:
                    if call.is_aborted:
                        self._outage.notice(since=deadline - self._retry_timeout)
        except errors.ReadOnlySqlTransaction:  # a former primary: make the pool connect to the present one
            connection.close()
            raise
        finally:
            self._pool.putconn(connection)

    def _configure(self, connection: Connection) -> None:
        with self.limited(connection, 0.0):
            configure(connection)

    @contextmanager
    def limited(self, connection: Connection, seconds: float) -> Iterator["_Call"]:
        """Abort the connection if the block takes longer than these seconds and the margin.

        :raises psycopg.OperationalError: if the connection was aborted.
        """
        call = _Call(connection, time.monotonic() + seconds + _MARGIN)
        with self._in_use_lock:
            self._in_use.add(call)
            if self._closed.is_set():
                _abort(connection)
        try:
            yield call
        except psycopg.OperationalError as error:
            if call.is_aborted:
                raise psycopg.OperationalError("the database did not answer in time") from error
            raise
        finally:
            with self._in_use_lock:
                self._in_use.remove(call)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except errors.LockNotAvailable as error:
            raise StoreUnavailable(self._name, "another session keeps the account locked") from error
        except DamagedRow as error:
            raise StoreUnavailable(self._name, str(error)) from error
        except (psycopg.Error, UnicodeError) as error:
            raise StoreUnavailable(self._name, _reason(error)) from error


class _Call:
    """A call that uses a connection, with the monotonic time at which it is aborted."""

    def __init__(self, connection: Connection, abort_at: float) -> None:
        self.connection = connection
        self.abort_at = abort_at
        self.is_aborted = False


class _Outage:
    """The time at which the database became unreachable, so that concurrent callers share one retry deadline."""

    def __init__(self) -> None:
        self._began = self._last_noticed = float("-inf")

    def notice(self, since: float | None = None) -> None:
        """Note that the database is unreachable, and that it was from then on. None means now."""
        now = time.monotonic()
        if now - self._last_noticed > 2 * _MAX_PAUSE:
            self._began = now if since is None else since
        self._last_noticed = now

    def end(self) -> None:
        """Note that the database has answered."""
        self._last_noticed = float("-inf")

    def began(self) -> float:
        """Return the monotonic time at which the present outage began, or now if there is none."""
        now = time.monotonic()
        return self._began if now - self._last_noticed <= 2 * _MAX_PAUSE else now


class InDoubt(Exception):
    """The connection was lost when COMMIT may have been sent.

    ``batch``, ``account_number`` and ``entry`` identify one of the entries. ``outcomes`` are what was decided about
    transactions.
    """

    def __init__(
        self, batch: UUID, account_number: str, entry: int, outcomes: Sequence[Account | AtmError] = ()
    ) -> None:
        super().__init__(batch)
        self.batch = batch
        self.account_number = account_number
        self.entry = entry
        self.outcomes = list(outcomes)


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


def _watch(session: "weakref.ref[PostgresSession]", closed: Event) -> None:
    """Abort late calls until the session is closed or no longer used."""
    while not closed.wait(_WATCH_INTERVAL):
        present = session()
        if present is None:
            return
        present.abort_late_calls()
        del present


def configure(connection: Connection) -> None:
    """Apply the settings that the promises need, where the database's own are weaker."""
    connection.execute(_STRICTER_SETTINGS)
    connection.execute(_PLANS_BY_INDEX)
    # A COMMIT that times out while it waits for a synchronous standby reports success.
    connection.execute("SELECT set_config('statement_timeout', '0', false)")


def _roll_back(connection: Connection) -> None:
    if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        with suppress(psycopg.Error):
            connection.rollback()


def _abort(connection: Connection) -> None:
    """End the operation that the connection waits for, in any thread."""
    with suppress(psycopg.Error, OSError):  # it has ended by itself
        own = socket.socket(fileno=connection.fileno())
        try:
            own.shutdown(socket.SHUT_RDWR)
        finally:
            own.detach()  # the file descriptor still belongs to the connection


def _reason(error: Exception) -> str:
    if isinstance(error, PoolTimeout):
        return "there is no connection to the database"
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return " ".join((primary or str(error)).split()).rstrip(".")
