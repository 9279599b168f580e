"""The header with which a client presents an access token (RFC 6750)."""

import re
from typing import Final

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # RFC 6750, section 2.1


def authorization(token: str | None) -> dict[str, str]:
    """Return the header that presents a token, or no header if there is none.

    :raises ValueError: if the token is malformed. The message does not contain it.
    """
    if token is None:
        return {}
    if _TOKEN.fullmatch(token) is None:
        raise ValueError("the access token is malformed; it must be one word, as atm token add printed it")
    return {"Authorization": f"Bearer {token}"}
