"""``/metrics`` of a running server, read with the parser of Prometheus."""

import os
import re
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from litestar.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families
from support.server import Server, running_server
from support.stores import demo_store
from support.waiting import until

from atm_adapters.bootstrap import open_async_store
from atm_adapters.front_ends.http.app import create_app

TEMPLATE = "/accounts/{account_number}"


class Figures:
    """All samples of one scrape."""

    def __init__(self, server: Server) -> None:
        answer = httpx.get(f"{server.address}/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        self.text = answer.text
        self.samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have this name and these labels."""
        return sum(
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(demo_store(tmp_path / "accounts.sqlite3"), tmp_path) as server:
        yield server


def post(server: Server, path: str = "/accounts/0/deposit", amount: object = 1) -> int:
    return httpx.post(f"{server.address}{path}", json={"amount": amount}, timeout=60).status_code


def test_requests_refusals_and_commits_are_counted(server: Server) -> None:
    assert [post(server) for _ in range(3)] == [200] * 3
    assert post(server, amount=-1) == 422
    assert post(server, "/accounts/kilroy/deposit") == 404
    assert httpx.get(f"{server.address}/accounts/kilroy/balance").status_code == 404
    assert httpx.get(f"{server.address}/kilroy").status_code == 404
    figures = Figures(server)
    deposits = {"method": "POST", "path": f"{TEMPLATE}/deposit"}
    assert figures("atm_requests_total", **deposits, status_code="200") == 3
    assert figures("atm_requests_total", **deposits) == figures("atm_request_duration_seconds_count", **deposits) == 5
    assert figures("atm_requests_total", method="GET", path=f"{TEMPLATE}/balance", status_code="404") == 1
    assert figures("atm_refusals_total", code="account-not-found") == 2
    assert figures("atm_refusals_total", code="invalid-amount") == figures("atm_refusals_total", code="404") == 1
    assert figures("atm_commit_batch_size_sum") == figures("atm_commit_batch_size_count") == 4
    assert figures("atm_commit_duration_seconds_count") == 4
    assert 0 < figures("atm_commit_duration_seconds_sum") < 60
    assert figures("atm_commit_queue_length") == 0
    assert "kilroy" not in figures.text  # no label contains an account number


def test_queue_length_and_batch_size_show_a_slow_commit(server: Server, tmp_path: Path) -> None:
    answers: list[Future[int]] = []

    def several_wait() -> bool:
        if len(answers) < 16:  # the event loop decides how many of them the blocked commit contains
            answers.append(clients.submit(post, server))
        return Figures(server)("atm_commit_queue_length") >= 4

    with ThreadPoolExecutor(16) as clients:
        post(server)
        with closing(sqlite3.connect(tmp_path / "accounts.sqlite3", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            until(several_wait, seconds=9)  # the store retries for ten
        assert {answer.result() for answer in answers} == {200}
    until(lambda: Figures(server)("atm_commit_batch_size_sum") == 1 + len(answers))  # figures are up to a second old
    figures = Figures(server)
    assert figures("atm_commit_queue_length") == 0
    assert figures("atm_commit_batch_size_bucket", le="2.0") < figures("atm_commit_batch_size_count")


@pytest.fixture
def two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Run a server with two workers whose temporary files are in a folder of this test."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    with running_server(demo_store(tmp_path / "accounts.sqlite3"), tmp_path, "--workers", "2") as server:
        yield server


def started(server: Server) -> list[int]:
    """Return the ids of the worker processes, in the order of their start."""
    return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", server.log.read_text())]


def test_metrics_of_all_workers_are_added_up_and_leave_no_files(two_workers: Server, tmp_path: Path) -> None:
    until(lambda: len(started(two_workers)) == 2)
    (folder,) = (tmp_path / "temporary").iterdir()
    answers: list[int] = []

    def both_have_counted() -> bool:
        answers.extend(clients.map(lambda _: post(two_workers), range(20)))
        # A worker's file contains the name of a counter after its first increment.
        return sum(b"atm_requests_total" in file.read_bytes() for file in folder.glob("counter_*.db")) == 2

    with ThreadPoolExecutor(4) as clients:
        until(both_have_counted)
    assert set(answers) == {200}

    def is_complete() -> bool:
        figures = Figures(two_workers)
        return (
            figures("atm_requests_total", path=f"{TEMPLATE}/deposit")
            == figures("atm_commit_batch_size_sum")
            == len(answers)
        ) and figures("atm_commit_queue_length") == 0

    # Each on a new connection, so either worker may answer, with figures that are up to a second old.
    until(lambda: all(is_complete() for _ in range(10)))
    assert two_workers.stop() == 0
    assert list((tmp_path / "temporary").iterdir()) == []


def test_gauges_of_a_killed_worker_disappear_and_counters_stay(two_workers: Server) -> None:
    until(lambda: len(started(two_workers)) == 2)
    assert [post(two_workers) for _ in range(20)] == [200] * 20
    half = b"POST /accounts/0/deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{"
    path = f"{TEMPLATE}/deposit"
    with socket.create_connection(two_workers.host_and_port) as client:
        client.sendall(half)
        until(lambda: Figures(two_workers)("atm_requests_in_progress", path=path) == 1)
        for pid in started(two_workers):
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(started(two_workers)) == 4)
        until(lambda: Figures(two_workers)("atm_requests_in_progress", path=path) == 0, seconds=5)
        assert Figures(two_workers)("atm_requests_total", path=path) == 20


def test_removed_folder_stops_neither_workers_nor_metrics(two_workers: Server, tmp_path: Path) -> None:
    until(lambda: len(started(two_workers)) == 2)
    (folder,) = (tmp_path / "temporary").iterdir()
    shutil.rmtree(folder)
    until(lambda: post(two_workers) == 200)
    os.kill(started(two_workers)[0], signal.SIGKILL)
    until(lambda: len(started(two_workers)) == 3)
    assert {post(two_workers) for _ in range(20)} == {200}
    for _ in range(10):  # each on a new connection, so either worker may answer
        assert httpx.get(f"{two_workers.address}/metrics").status_code == 200
    assert len(started(two_workers)) == 3


def test_api_works_without_the_metrics_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "atm_adapters.front_ends.http.metrics", raising=False)
    with TestClient(create_app(open_async_store("memory:"))) as client:
        assert client.post("/accounts/0/deposit", json={"amount": 1}).status_code == 200
        answer = client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["detail"].endswith("install it with: pip install prometheus-client")
