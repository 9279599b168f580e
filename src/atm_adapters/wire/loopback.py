"""Host names and addresses of the loopback interface."""

from functools import lru_cache
from ipaddress import ip_address


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Return whether a host name or an address, without a port, belongs to the loopback interface."""
    host = host.lower()
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
