"""The metrics and the backup command of docs/operating.md are right."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.server import running_server

from atm_adapters import open_store
from atm_core import deposit, get_account

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()


def test_table_names_exactly_the_metrics_that_are_served(tmp_path: Path) -> None:
    with running_server(str(tmp_path / "accounts.sqlite3"), tmp_path) as server:
        httpx.get(f"{server.address}/accounts/9/balance")
        families = text_string_to_metric_families(httpx.get(f"{server.address}/metrics").text)
        served = {
            family.name + ("_total" if family.type == "counter" else "")
            for family in families
            if family.name.startswith("atm_") and not family.name.endswith("_created")
        }
    named = set(re.findall(r"^\| `(atm_\w+)` \|", PAGE, re.MULTILINE))
    assert named == served | {"atm_requests_error_total"}, "that one appears with the first error"


def test_backup_holds_accounts_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    statement = re.search(r'^sqlite3 accounts.sqlite3 "(.*)" &&', PAGE, re.MULTILINE)
    assert statement is not None
    with closing(open_store("accounts.sqlite3")) as accounts:
        deposit(accounts, "0", 100, "key")
        with closing(sqlite3.connect("accounts.sqlite3")) as backing_up:
            backing_up.execute(statement[1])
        deposit(accounts, "0", 1)
    with closing(open_store("backup.sqlite3")) as restored:
        assert get_account(restored, "0").balance == 1100
        assert deposit(restored, "0", 100, "key").balance == 1100
