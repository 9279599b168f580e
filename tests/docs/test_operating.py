"""The metrics of docs/operating.md, and what it says about commands of root, are right."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from support.server import running_server

from atm_adapters import open_store

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()


def test_table_names_exactly_the_metrics_that_are_served(tmp_path: Path) -> None:
    store = str(tmp_path / "accounts.sqlite3")
    open_store(store, create=True).close()
    with running_server(store, tmp_path) as server:
        httpx.get(f"{server.address}/accounts/9/balance")
        families = text_string_to_metric_families(httpx.get(f"{server.address}/metrics").text)
        served = {
            family.name + ("_total" if family.type == "counter" else "")
            for family in families
            if family.name.startswith("atm_") and not family.name.endswith("_created")
        }
    named = set(re.findall(r"^\| `(atm_\w+)` \|", PAGE, re.MULTILINE))
    assert named == served | {"atm_requests_error_total"}, "that one appears with the first error"


def test_killed_command_of_root_leaves_files_to_their_owner(tmp_path: Path) -> None:
    file = tmp_path / "accounts.sqlite3"
    open_store(str(file), create=True).close()
    owner = 10001 if os.geteuid() == 0 else os.geteuid()
    os.chown(file, owner, -1)
    killed = """
import os, signal, sys
from atm_adapters import open_store
from atm_core import open_account
open_account(open_store(sys.argv[1]), "42")
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", killed, file], timeout=60)  # noqa: S603 - our own program
    assert done.returncode == -signal.SIGKILL
    owners = {path.name: (path.stat().st_uid, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
    names = ["accounts.sqlite3", "accounts.sqlite3-shm", "accounts.sqlite3-wal"]
    assert owners == dict.fromkeys(names, (owner, 0o600))
