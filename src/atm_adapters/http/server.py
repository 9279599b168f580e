"""``atm serve``: the application on uvicorn, in one process or several."""

import gc
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from tempfile import TemporaryDirectory

import uvicorn
from litestar import Litestar
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from uvicorn.supervisors import Multiprocess

from atm_adapters.http.app import DOCS_PATH, create_app
from atm_adapters.http.protocol import BoundedProtocol
from atm_adapters.http.request_id import RequestIdFilter
from atm_adapters.stores import open_store, without_password

_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own name for it
GRACE_SECONDS = 5  # to finish requests; as long again may pass while the store finishes


class AddressUnavailable(Exception):
    """The address to listen on can't be had. ``address`` says which, ``reason`` why."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address = address
        self.reason = reason

    def __str__(self) -> str:
        return f"can't listen on {self.address}: {self.reason}. Name another address with --host or --port."


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
) -> None:
    """Serve a store over HTTP until SIGINT or SIGTERM, then finish the requests that were begun.

    :param store: URL of the store, as for :func:`~atm_adapters.stores.open_store`.
    :param port: 0 takes a free one.
    :param log_level: name of a level of ``logging``, in lower case.
    :param log_format: ``console``, for people, or ``json``, for programs.
    :param allowed_hosts: as for :func:`~atm_adapters.http.app.create_app`; ``allowed_origins`` too.
    :raises StoreUnavailable: if the store can't be opened.
    :raises AddressUnavailable: if the address can't be listened on.
    """
    open_store(store).close()  # told now and once, rather than by every worker
    # How the workers, which are new processes, learn of it.
    os.environ |= {
        "ATM_STORE": store,
        "ATM_ALLOW_HOST": " ".join(allowed_hosts),
        "ATM_ALLOW_ORIGIN": " ".join(allowed_origins),
    }
    with _folder_for_metrics(workers), _listen(host, port) as listener:
        address = f"http://{_netloc(host, listener.getsockname()[1])}"
        _print_banner(address, store)
        config = uvicorn.Config(
            "atm_adapters.http.server:create_server_app",
            factory=True,
            workers=workers,
            # Not h11: it accepts Content-Length beside Transfer-Encoding, which smuggles requests.
            http=BoundedProtocol,
            proxy_headers=False,  # nothing here asks who the client is
            access_log=False,  # it names the client's address
            server_header=False,
            log_config=log_config(log_level.upper(), log_format),
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises it once more when everything is finished
            if workers > 1:
                Multiprocess(config, sockets=[listener]).run()
            else:
                uvicorn.Server(config).run(sockets=[listener])


def create_server_app() -> Litestar:
    """Make the application for a process that does nothing else, which may therefore set up its memory for it.

    With many connections Python's collector ran often and looked at everything each time: 1 % of the
    answers at 128 connections then took 150 to 300 ms, and 8 to 20 ms like this.
    """
    app = create_app()
    gc.collect()
    gc.freeze()  # what is there before the first request stays
    gc.set_threshold(10_000, 20, 20)
    return app


@contextmanager
def _folder_for_metrics(workers: int) -> Iterator[None]:
    """Give several workers a folder to add up their metrics in, unless there is one."""
    if workers == 1 or _METRICS_FOLDER in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="mini-atm-metrics-") as folder:
        os.environ[_METRICS_FOLDER] = folder  # before the workers import what reads it
        try:
            yield
        finally:
            del os.environ[_METRICS_FOLDER]


def _print_banner(address: str, store: str) -> None:
    with suppress(OSError):  # who closed standard output wants no banner, but a server
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what the terminal can't show
        print(f"Mini-ATM is listening on {address}")  # noqa: T201
        print(f"Store: {without_password(store)}")  # noqa: T201
        print(f"Docs:  {address}{DOCS_PATH}", flush=True)  # noqa: T201


def _listen(host: str, port: int) -> socket.socket:
    if not host:
        raise AddressUnavailable(_netloc(host, port), "an empty host would be every network; 0.0.0.0 says so")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason = str(error)
        if isinstance(error, socket.gaierror):
            reason = str(error.strerror)
        elif isinstance(error, OSError) and error.errno:
            reason = os.strerror(error.errno)  # create_server() adds the address to its own, which stands there already
        raise AddressUnavailable(_netloc(host, port), reason) from error


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def log_config(level: str, log_format: str) -> dict[str, object]:
    """Describe the log for ``logging.config.dictConfig``; a level in capitals, and a format as for :func:`run`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": RequestIdFilter}},
        "formatters": {
            "console": {"format": "%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s"},
            "json": {
                "()": JsonFormatter,
                "fmt": ["levelname", "name", "request_id", "message"],
                "rename_fields": {"levelname": "level", "name": "logger", "exc_info": "exception"},
                "reserved_attrs": [*RESERVED_ATTRS, "color_message"],  # uvicorn's message once more, for a terminal
                "timestamp": True,
            },
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": log_format, "filters": ["request_id"]}},
        "loggers": {"httpx": {"level": "WARNING"}},  # a remote store's requests, which our own lines tell of already
        "root": {"level": level, "handlers": ["stderr"]},
    }
