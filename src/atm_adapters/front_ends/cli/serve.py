"""The command that serves the accounts over HTTP."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from atm_adapters.bootstrap import default_store_url, store_kind
from atm_adapters.front_ends.cli.app import SERVERS, app
from atm_adapters.front_ends.cli.options import StoreUrl
from atm_adapters.front_ends.cli.output import fail, warn


class LogLevel(StrEnum):
    """The levels of ``logging`` that are useful for a server."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class LogFormat(StrEnum):
    """The format of log lines."""

    console = "console"
    json = "json"


def _between(least: int, most: int) -> Callable[[int], int]:
    """Return a callback that checks a range. Typer's own check adds a wide column to the help."""

    def check(value: int) -> int:
        if least <= value <= most:
            return value
        raise typer.BadParameter(f"{value} is not between {least} and {most}.")

    return check


@app.command(rich_help_panel=SERVERS)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.", metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on. 0 takes a free one.", metavar="PORT", callback=_between(0, 65535))
    ] = 8000,
    workers: Annotated[
        int, typer.Option(help="Number of server processes.", metavar="N", callback=_between(1, 64))
    ] = 1,
    log_level: Annotated[
        LogLevel, typer.Option(help="debug, info, warning or error. Refusals are logged as warnings.", metavar="LEVEL")
    ] = LogLevel.info,
    log_format: Annotated[
        LogFormat, typer.Option(help="console for people, json for one JSON object per line.", metavar="FORMAT")
    ] = LogFormat.console,
    allow_host: Annotated[
        list[str],
        typer.Option(
            envvar="ATM_ALLOW_HOST",
            metavar="NAME",
            help="Accept requests for this host name, such as that of a proxy. Repeatable.",
        ),
    ] = [],  # noqa: B006 - Typer's convention; the list is not changed
    allow_origin: Annotated[
        list[str],
        typer.Option(
            envvar="ATM_ALLOW_ORIGIN",
            metavar="URL",
            help="Let web pages of this origin, such as https://example.org, move money. Repeatable.",
        ),
    ] = [],  # noqa: B006
    tokens: Annotated[
        str | None,
        typer.Option(
            envvar="ATM_TOKENS_FILE",
            metavar="FILE",
            help="Require access tokens, which this file lists. To make one: atm token add.",
            show_default=False,
        ),
    ] = None,
    no_auth: Annotated[
        bool,
        typer.Option(
            "--no-auth",
            help="Listen on a network without access tokens, because a proxy in front decides who may connect.",
        ),
    ] = False,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="Serve HTTPS with this certificate (PEM).", show_default=False)
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="The private key of the certificate (PEM).", show_default=False)
    ] = None,
    store: StoreUrl = None,
) -> None:
    """Serve the accounts over HTTP until Ctrl-C or SIGTERM, then finish the requests under way.

    Without access tokens, every client that can connect may do everything. So the server then listens on loopback
    only, unless `--no-auth` says that a proxy in front of it decides who may connect.

    Example: `atm serve --port 8080 --store accounts.sqlite3`
    """
    from atm_adapters.front_ends.http.cross_site import normalize_origin
    from atm_adapters.front_ends.http.server.run import AddressUnavailable, run
    from atm_adapters.front_ends.http.server.tls import InvalidCertificate
    from atm_adapters.wire.loopback import is_loopback

    url = default_store_url() if store is None else store
    if store_kind(url) == "memory" and workers > 1:
        raise typer.BadParameter(
            "memory: belongs to one process, so every worker would have its own accounts. "
            "Use one worker, or a store that processes can share.",
            param_hint="--workers",
        )
    if _is_address_of(url, host, port):
        raise typer.BadParameter("a server cannot be its own store.", param_hint="--store")
    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("--tls-cert and --tls-key belong together: give both.", param_hint="--tls-cert")
    if tokens == "":
        raise typer.BadParameter("the name of the file is empty.", param_hint="--tokens")
    if tokens is not None and no_auth:
        raise typer.BadParameter(
            "it contradicts --tokens and ATM_TOKENS_FILE. Use one of the two.", param_hint="--no-auth"
        )
    if host and not is_loopback(host):
        if tokens is None and not no_auth:
            raise typer.BadParameter(
                f"on {host}, every client of the network could move money. Use --tokens FILE to require access tokens, "
                "or --no-auth if a proxy in front decides who may connect.",
                param_hint="--host",
            )
        if tokens is not None and tls_cert is None:
            warn("Without --tls-cert, access tokens cross the network unencrypted. A proxy in front should add TLS.")
    try:
        allowed_origins = [normalize_origin(origin) for origin in allow_origin]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--allow-origin") from None
    try:
        run(
            url,
            host=host,
            port=port,
            workers=workers,
            log_level=log_level.value,
            log_format=log_format.value,
            allowed_hosts=allow_host,
            allowed_origins=allowed_origins,
            tokens_file=tokens,
            tls=None if tls_cert is None or tls_key is None else (tls_cert, tls_key),
        )
    except InvalidCertificate as error:
        raise typer.BadParameter(str(error), param_hint="--tls-cert") from None
    except AddressUnavailable as error:
        fail(str(error), 1, "address-unavailable")


def _is_address_of(url: str, host: str, port: int) -> bool:
    """Return whether the store URL names the address that the server would listen on."""
    if store_kind(url) != "remote":
        return False
    from urllib.parse import urlsplit

    from atm_adapters.wire.loopback import is_loopback

    try:
        named, named_port = urlsplit(url).hostname or "", urlsplit(url).port
    except ValueError:  # the store reports what is wrong with it
        return False
    listens_on_loopback = is_loopback(host) or host in ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on
    return named_port == port and (named == host or (listens_on_loopback and is_loopback(named)))
