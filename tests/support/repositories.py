"""Empty repositories that are deleted after use."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from atm_adapters.repositories.sqlite import SqliteAccountRepository


@contextmanager
def new_sqlite() -> Iterator[SqliteAccountRepository]:
    """Create a SQLite file in a temporary folder."""
    with (
        TemporaryDirectory() as folder,
        closing(SqliteAccountRepository(Path(folder) / "accounts.sqlite3", [])) as accounts,
    ):
        yield accounts
