"""Run the HTTP API on uvicorn, in one process or several."""

import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from tempfile import TemporaryDirectory
from types import FrameType

import uvicorn
from litestar import Litestar
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from uvicorn.supervisors import Multiprocess

from atm_adapters.bootstrap import open_store, redact_url
from atm_adapters.front_ends.http.app import create_app
from atm_adapters.front_ends.http.docs import DOCS_PATH
from atm_adapters.front_ends.http.request_id import RequestIdFilter
from atm_adapters.front_ends.http.server.log_queue import QueuedStderrHandler
from atm_adapters.front_ends.http.server.protocol import LimitedHttpProtocol
from atm_adapters.front_ends.http.server.tls import check_certificate
from atm_adapters.front_ends.http.tokens import read_tokens
from atm_core.ports import GRACE_SECONDS

_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own name for it


class AddressUnavailable(Exception):
    """The server cannot listen on an address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"Cannot listen on {address}: {reason}. Choose another address with --host or --port.")


def run(
    store: str,
    *,
    host: str,
    port: int,
    workers: int,
    log_level: str,
    log_format: str,
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    tokens_file: str | None = None,
    tls: tuple[str, str] | None = None,
) -> None:
    """Serve a store over HTTP until SIGINT or SIGTERM, then finish the requests under way.

    :param store: URL of the store, as for :func:`~atm_adapters.bootstrap.open_store`.
    :param host: the address or the name to listen on. The name is accepted as ``Host``.
    :param port: 0 takes a free one.
    :param log_level: name of a level of ``logging``, in lower case.
    :param log_format: ``console`` for people, ``json`` for programs.
    :param allowed_hosts: as for :func:`~atm_adapters.front_ends.http.app.create_app`, like ``allowed_origins``
        and ``tokens_file``.
    :param tls: the files with the certificate and its private key, for HTTPS.
    :raises StoreUnavailable: if the store cannot be opened.
    :raises InvalidTokensFile: if the tokens file cannot be read.
    :raises InvalidCertificate: if the certificate and its key cannot be used.
    :raises AddressUnavailable: if the server cannot listen on the address.
    """
    # Errors are reported once, instead of in every worker.
    if tokens_file is not None:
        read_tokens(tokens_file)
    if tls is not None:
        check_certificate(*tls)
    open_store(store).close()
    # Workers are new processes and read these variables.
    os.environ |= {
        "ATM_STORE": store,
        "ATM_ALLOW_HOST": " ".join([host, *allowed_hosts]),
        "ATM_ALLOW_ORIGIN": " ".join(allowed_origins),
        "ATM_TOKENS_FILE": tokens_file or "",
    }
    with _folder_for_metrics(workers), _listen(host, port) as listener:
        # uvloop accepts one connection for each socket and turn of the event loop (libuv since 1.45). With 16 handles
        # of one socket, a new connection waits for 0.3 s instead of 5 s under load.
        listeners = [listener, *(listener.dup() for _ in range(15))]
        address = f"{'http' if tls is None else 'https'}://{_netloc(host, listener.getsockname()[1])}"
        _print_banner(address, store)
        config = _Config(
            "atm_adapters.front_ends.http.server.run:create_server_app",
            factory=True,
            workers=workers,
            # Not h11, which accepts Content-Length together with Transfer-Encoding (request smuggling).
            http=LimitedHttpProtocol,
            loop="auto" if tls is None else "atm_adapters.front_ends.http.server.tls:new_event_loop",
            proxy_headers=False,  # the client's address is not used
            access_log=False,  # it contains client addresses
            server_header=False,
            log_config=log_config(log_level.upper(), log_format),
            timeout_graceful_shutdown=GRACE_SECONDS,
            ssl_certfile=None if tls is None else tls[0],
            ssl_keyfile=None if tls is None else tls[1],
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises it again after a clean shutdown
            if workers > 1:
                Multiprocess(config, sockets=listeners).run()
            else:
                uvicorn.Server(config).run(sockets=listeners)


class _Config(uvicorn.Config):
    """uvicorn's configuration, which configures the log of the server and of each worker."""

    def configure_logging(self) -> None:
        """Configure the log, and write what is queued before SIGTERM ends the process."""
        super().configure_logging()
        signal.signal(signal.SIGTERM, _flush_log_and_end)  # uvicorn raises it again after a clean shutdown


def _flush_log_and_end(number: int, _: FrameType | None) -> None:
    logging.shutdown()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def create_server_app() -> Litestar:
    """Return the application for a server process, and tune the garbage collector for it.

    With the default settings and 128 connections, the collector made 1 % of the answers take 150 to 300 ms.
    With these it is 8 to 20 ms.
    """
    # run() has opened the store and read the tokens once. If that fails now, a worker that ended would be replaced
    # without end.
    app = create_app(starts_unready=True)
    gc.collect()
    gc.freeze()  # objects made before the first request are permanent
    gc.set_threshold(10_000, 20, 20)
    return app


@contextmanager
def _folder_for_metrics(workers: int) -> Iterator[None]:
    """Provide a shared folder for the metrics of several workers, unless the environment names one."""
    if workers == 1 or _METRICS_FOLDER in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="mini-atm-metrics-") as folder:
        os.environ[_METRICS_FOLDER] = folder  # before a worker imports prometheus_client
        try:
            yield
        finally:
            del os.environ[_METRICS_FOLDER]


def _print_banner(address: str, store: str) -> None:
    with suppress(OSError):  # a closed standard output does not stop the server
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # for paths that the terminal cannot encode
        print(f"Mini-ATM is listening on {address}")  # noqa: T201
        print(f"Store: {redact_url(store)}")  # noqa: T201
        print(f"Docs:  {address}{DOCS_PATH}", flush=True)  # noqa: T201


def _listen(host: str, port: int) -> socket.socket:
    if not host:
        raise AddressUnavailable(
            _netloc(host, port), "an empty host means every network, for which 0.0.0.0 is the explicit form"
        )
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason = str(error)
        if isinstance(error, socket.gaierror):
            reason = str(error.strerror)
        elif isinstance(error, OSError) and error.errno:
            reason = os.strerror(error.errno)  # create_server() would repeat the address
        raise AddressUnavailable(_netloc(host, port), reason) from error


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def log_config(level: str, log_format: str) -> dict[str, object]:
    """Return the configuration for ``logging.config.dictConfig``. The level is in capitals."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": RequestIdFilter}},
        "formatters": {
            "console": {"format": "%(asctime)s %(levelname)s [%(caller)s] %(name)s: %(message)s"},
            "json": {
                "()": JsonFormatter,
                "fmt": ["levelname", "name", "request_id", "message"],
                "rename_fields": {"levelname": "level", "name": "logger", "exc_info": "exception"},
                # uvicorn repeats its message in color_message for terminals. A token is printed if there is one.
                "reserved_attrs": [*RESERVED_ATTRS, "caller", "color_message"],
                "timestamp": True,
            },
        },
        "handlers": {"stderr": {"()": QueuedStderrHandler, "formatter": log_format, "filters": ["request_id"]}},
        "loggers": {"httpx": {"level": "WARNING"}},  # httpx logs each request of a remote store at INFO
        "root": {"level": level, "handlers": ["stderr"]},
    }
