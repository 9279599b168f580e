"""The programs in ``examples/`` succeed."""

import subprocess
import sys
from pathlib import Path

from support.server import running_server
from support.stores import demo_store

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_concurrent_clients_example_succeeds(tmp_path: Path) -> None:
    for store in ("memory:", demo_store(tmp_path / "accounts.sqlite3")):
        with running_server(store, tmp_path) as server:
            done = subprocess.run(  # noqa: S603 - our own example
                [sys.executable, EXAMPLES / "concurrent_clients.py", server.address],
                capture_output=True,
                text=True,
                timeout=120,
            )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith("All as expected.\n")
