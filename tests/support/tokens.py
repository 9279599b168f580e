"""Access tokens for tests, in a file as ``atm token`` writes it."""

from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import Literal

from atm_adapters.front_ends.http.tokens import TokenEntry, Verb, changed_entries, new_token


def add_token(
    file: Path,
    name: str,
    may: Collection[Verb],
    accounts: Collection[str] | Literal["all"] = "all",
    expires: date | None = None,
) -> str:
    """Add a token to the file, and return it."""
    token, token_id, digest = new_token()
    numbers: list[str] | Literal["all"] = "all" if accounts == "all" else list(accounts)
    with changed_entries(str(file)) as entries:
        entries[name] = TokenEntry(id=token_id, sha256=digest, may=list(may), accounts=numbers, expires=expires)
    return token


def revoke_token(file: Path, name: str) -> None:
    """Remove a token from the file."""
    with changed_entries(str(file)) as entries:
        del entries[name]


def bearer(token: str) -> dict[str, str]:
    """Return the header that presents a token."""
    return {"Authorization": f"Bearer {token}"}
