"""HTTPS, which is uvicorn's own: the check of the certificate, and deadlines for which uvicorn has no setting."""

import asyncio
import ssl
from typing import Any

from atm_adapters.front_ends.http.server.protocol import LimitedHttpProtocol


class InvalidCertificate(Exception):
    """The certificate for HTTPS, or its private key, cannot be used."""

    def __init__(self, certificate: str, key: str, reason: str) -> None:
        super().__init__(
            f"The certificate {certificate} cannot be used with the key {key}: {reason}. "
            "Both must be PEM files that belong together, and the key must have no passphrase."
        )


def check_certificate(certificate: str, key: str) -> None:
    """Raise an error unless a server can use a certificate with a private key.

    :raises InvalidCertificate: if it cannot.
    """
    try:
        # With an empty passphrase, OpenSSL does not ask for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        reason = "they are malformed" if error.reason is None else error.reason.lower().replace("_", " ")
        raise InvalidCertificate(certificate, key, reason) from error
    except OSError as error:
        raise InvalidCertificate(certificate, key, str(error.strerror)) from error


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose servers give TLS handshakes and closings a deadline.

    ``LimitedHttpProtocol`` sees a connection after its handshake, and until it closes it. uvloop's own deadlines are 60
    and 30 seconds.
    """
    import uvloop  # not on Windows

    class Loop(uvloop.Loop):
        async def create_server(self, *args: Any, **options: Any) -> Any:
            seconds = LimitedHttpProtocol.read_seconds
            return await super().create_server(
                *args, **options, ssl_handshake_timeout=seconds, ssl_shutdown_timeout=seconds
            )

    return Loop()
