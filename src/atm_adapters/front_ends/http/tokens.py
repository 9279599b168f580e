"""Access tokens, and the file that lists them.

The file holds the SHA-256 of each token, and no token. A slow hash, as for passwords, is not needed: a token has 256
random bits. Tokens are made and revoked by ``atm token`` only, never over HTTP.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from tempfile import mkstemp
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias

import msgspec

from atm_adapters.wire.errors import InvalidTokensFile
from atm_core.account import ACCOUNT_NUMBER_PATTERN

NAME_PATTERN: Final = "[A-Za-z0-9_-]{1,64}"
NAME_RULE: Final = "1 to 64 characters of A-Z a-z 0-9 _ -"
ALL_ACCOUNTS: Final[Literal["all"]] = "all"

_PREFIX: Final = "atm_"
_ID_BYTES: Final = 4
_SECRET_BYTES: Final = 32
_ID_END: Final = len(_PREFIX) + 2 * _ID_BYTES
TOKEN_BYTES: Final = _ID_END + 1 + 2 * _SECRET_BYTES
"""The length of every token."""

TOKEN_ID: Final = slice(len(_PREFIX), _ID_END)
"""The part of a token that may be shown."""


def _matches(pattern: str) -> msgspec.Meta:
    return msgspec.Meta(pattern=rf"^{pattern}\Z")  # $ would also match before a line feed


_AccountNumber: TypeAlias = Annotated[str, _matches(ACCOUNT_NUMBER_PATTERN)]


class Verb(StrEnum):
    """The verbs that a token may have. Each allows some calls."""

    read = "read"  # balance, facts and history of an account
    move = "move"  # deposit and withdraw
    manage = "manage"  # open, limit, close and reopen accounts
    monitor = "monitor"  # metrics, and the details of readiness


class TokenEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A token in the file, under its name.

    ``id`` is the part of the token that may be shown. ``accounts`` are account numbers, or "all". ``expires`` is the
    last day on which the token is valid, in UTC.
    """

    id: Annotated[str, _matches(f"[0-9a-f]{{{2 * _ID_BYTES}}}")]
    sha256: Annotated[str, _matches("[0-9a-f]{64}")]
    may: Annotated[list[Verb], msgspec.Meta(min_length=1)]
    accounts: list[_AccountNumber] | Literal["all"]
    expires: date | None = None


_Entries: TypeAlias = dict[Annotated[str, _matches(NAME_PATTERN)], TokenEntry]


class AccessToken(NamedTuple):
    """A token of the file, in the form that is quick to check. ``accounts`` is None for all accounts."""

    name: str
    digest: bytes
    verbs: tuple[Verb, ...]  # not a set, because Enum has a slow hash
    accounts: frozenset[str] | None
    expires_at: float  # seconds since the epoch

    def covers(self, verb: Verb, account_number: str | None) -> bool:
        """Return whether the token allows a call. Monitoring concerns no account.

        :param account_number: None for an account that does not exist yet, which needs a token for all accounts.
        """
        if verb not in self.verbs:
            return False
        return self.accounts is None or account_number in self.accounts or verb is Verb.monitor


def new_token() -> tuple[str, str, str]:
    """Return a new random token, its id, and its SHA-256 in hexadecimal digits."""
    token_id = secrets.token_hex(_ID_BYTES)
    token = f"{_PREFIX}{token_id}_{secrets.token_hex(_SECRET_BYTES)}"
    return token, token_id, sha256(token.encode()).hexdigest()


def read_entries(file: str) -> _Entries:
    """Return the tokens of a file by name.

    :raises InvalidTokensFile: if the file cannot be read, or is not such a file.
    """
    try:
        entries = msgspec.toml.decode(Path(file).read_bytes(), type=_Entries)
    except OSError as error:
        raise InvalidTokensFile(file, str(error.strerror)) from error
    except (ValueError, RecursionError) as error:  # no TOML, or other members
        raise InvalidTokensFile(file, f"{error}. It is written by: atm token add") from error
    ids = [entry.id for entry in entries.values()]
    if len(set(ids)) < len(ids):
        raise InvalidTokensFile(file, "two tokens have the same id")
    return entries


def read_tokens(file: str) -> Mapping[bytes, AccessToken]:
    """Return the tokens of a file by id. Raises as :func:`read_entries` does."""
    return {
        entry.id.encode(): AccessToken(
            name,
            bytes.fromhex(entry.sha256),
            tuple(entry.may),
            None if entry.accounts == ALL_ACCOUNTS else frozenset(entry.accounts),
            float("inf") if entry.expires is None else _end_of(entry.expires),
        )
        for name, entry in read_entries(file).items()
    }


@contextmanager
def changed_entries(file: str) -> Iterator[_Entries]:
    """Yield the tokens of a file by name, and write what the block leaves, in one step.

    A file that does not exist is created, readable by its owner only. An existing one keeps its owner and permissions.
    Other processes that change the file wait.

    :raises InvalidTokensFile: if the file cannot be read or written.
    """
    import fcntl  # not on Windows, where the server must start all the same

    path = Path(os.path.realpath(file))
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise InvalidTokensFile(file, f"its folder cannot be opened ({error.strerror})") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # not the file, because it is replaced
        entries = read_entries(file) if path.exists() else {}
        yield entries
        try:
            _replace(path, msgspec.toml.encode(entries))
            os.fsync(folder)
        except OSError as error:
            raise InvalidTokensFile(file, f"it cannot be written ({error.strerror})") from error
    finally:
        os.close(folder)


def _replace(path: Path, content: bytes) -> None:
    descriptor, temporary = mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as new:
            new.write(content)
            new.flush()
            if path.exists():
                before = path.stat()
                os.fchmod(new.fileno(), before.st_mode & 0o777)
                os.fchown(new.fileno(), before.st_uid, before.st_gid)
            os.fsync(new.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _end_of(day: date) -> float:
    return datetime.combine(day, time.max, UTC).timestamp()
