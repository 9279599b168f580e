"""What docs/operating.md says of metrics and backups is so."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.server import running_server

from atm_adapters.stores import open_store
from atm_core import check_balance, deposit

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()


def test_the_table_of_metrics_names_all_of_them_and_no_others(tmp_path: Path) -> None:
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


def test_the_backup_is_whole_and_is_a_store_with_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    statement = re.search(r'^sqlite3 accounts.sqlite3 "(.*)" &&', PAGE, re.MULTILINE)
    assert statement is not None
    with closing(open_store("accounts.sqlite3")) as accounts:
        deposit(accounts, "0", 100, "key")
        with closing(sqlite3.connect("accounts.sqlite3")) as backing_up:
            backing_up.execute(statement[1])
        deposit(accounts, "0", 1)
    with closing(open_store("backup.sqlite3")) as restored:
        assert check_balance(restored, "0").balance == 1100
        assert deposit(restored, "0", 100, "key").balance == 1100
