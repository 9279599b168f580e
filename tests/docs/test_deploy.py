"""The commands in deploy/ do what its files say, as far as they run without systemd and containers."""

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.atm_process import run_atm
from typer.main import get_command

from atm_adapters import open_store
from atm_adapters.front_ends.cli import app
from atm_adapters.front_ends.http.tokens import read_tokens
from atm_core import get_account, open_account

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVICES = sorted(DEPLOY.glob("*.service"))
NOT_HARDENING = ("Type", "Environment", "Exec", "Restart", "TimeoutStopSec", "LimitNOFILE", "StateDirectory")


def settings(unit: Path) -> dict[str, list[str]]:
    """Return the values of each setting in the [Service] section of a unit."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().partition("[Service]\n")[2].partition("[Install]")[0].splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def run(unit: str, setting: str, state: Path) -> None:
    """Run the commands of a setting as systemd does, with a folder in the place of /var/lib."""
    service = settings(DEPLOY / unit)

    def expanded(value: str) -> str:
        value = value.replace("/opt/mini-atm/bin/", f"{Path(sys.executable).parent}/").replace("$$", "$")
        return re.sub("%(.)", lambda specifier: {"S": str(state), "%": "%"}[specifier[1]], value)

    environment = dict(expanded(assignment).split("=") for assignment in service["Environment"])
    for command in service[setting]:
        words = shlex.split(expanded(command))
        subprocess.run(words, check=True, timeout=60, env=os.environ | environment)  # noqa: S603 - our own units


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder with those that systemd makes for the units."""
    for service in SERVICES:
        for name in settings(service)["StateDirectory"][0].split():
            (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path


def test_service_creates_its_store_without_accounts(state: Path) -> None:
    for _ in range(2):  # the second start finds it
        run("mini-atm.service", "ExecStartPre", state)
    with open_store(str(state / "mini-atm/accounts.sqlite3")) as accounts:
        assert accounts.list_accounts("", 10) == []  # type: ignore[attr-defined]


def test_service_creates_its_tokens_file_and_keeps_it(state: Path) -> None:
    run("mini-atm.service", "ExecStartPre", state)
    file = state / "mini-atm/tokens.toml"
    assert read_tokens(str(file)) == {}
    add = ["token", "add", "till-1", "--may", "read", "--account", "42", "--tokens", str(file)]
    assert run_atm(*add).returncode == 0
    run("mini-atm.service", "ExecStartPre", state)
    assert [token.name for token in read_tokens(str(file)).values()] == ["till-1"]


def test_everything_in_deploy_requires_tokens() -> None:
    (in_unit,) = [each for each in settings(DEPLOY / "mini-atm.service")["Environment"] if "TOKENS" in each]
    (in_image,) = re.findall(r"ATM_TOKENS_FILE=/\S+", (DEPLOY / "Containerfile").read_text())
    assert (in_unit, in_image) == (
        "ATM_TOKENS_FILE=%S/mini-atm/tokens.toml",
        "ATM_TOKENS_FILE=/var/lib/mini-atm/tokens.toml",
    )


def test_backup_service_keeps_two_weeks(state: Path) -> None:
    run("mini-atm.service", "ExecStartPre", state)
    folder = state / "mini-atm-backups"
    old, recent = folder / "accounts-old.sqlite3", folder / "accounts-recent.sqlite3"
    for file, days in ((old, 14), (recent, 13)):
        file.touch()
        changed = file.stat().st_mtime - days * 24 * 60 * 60 - 60
        os.utime(file, (changed, changed))
    with open_store(str(state / "mini-atm/accounts.sqlite3")) as accounts:
        open_account(accounts, "42", 5)
        run("mini-atm-backup.service", "ExecStart", state)
        run("mini-atm-backup.service", "ExecStartPost", state)
    kept, backup = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)
    assert kept == recent
    assert re.fullmatch(r"accounts-\d{4}-\d\d-\d\dT\d{6}Z\.sqlite3", backup.name)
    with open_store(str(backup)) as copy:
        assert get_account(copy, "42").balance == 5


def test_verify_service_fails_if_a_balance_is_wrong(state: Path) -> None:
    run("mini-atm.service", "ExecStartPre", state)
    file = state / "mini-atm/accounts.sqlite3"
    with open_store(str(file)) as accounts:
        open_account(accounts, "42", 5)
    run("mini-atm-verify.service", "ExecStart", state)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE account SET balance = 501")
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run("mini-atm-verify.service", "ExecStart", state)
    assert failure.value.returncode == 1


def test_services_share_user_and_hardening() -> None:
    hardening = [
        {name: values for name, values in settings(service).items() if not name.startswith(NOT_HARDENING)}
        for service in SERVICES
    ]
    assert len(hardening) == 3
    assert hardening[0]["User"] == ["mini-atm"]
    assert hardening[1:] == hardening[:1] * 2


def test_every_timer_starts_a_service() -> None:
    timers = sorted(DEPLOY.glob("*.timer"))
    assert timers
    assert [timer for timer in timers if timer.with_suffix(".service") not in SERVICES] == []


def test_every_other_command_can_be_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATM_TOKENS_FILE", "tokens.toml")  # as in the image
    texts = {file.name: file.read_text() for file in DEPLOY.iterdir()}
    # The comments begin a command with three spaces, and name its program with or without its folder.
    shown = re.findall(r"^# {3}(?:.* |/.*/)?atm (.*)", "\n".join(texts.values()), re.MULTILINE)
    (started,) = re.findall(r"^CMD (.*)", texts["Containerfile"], re.MULTILINE)
    program, *words = json.loads(started)
    (served,) = settings(DEPLOY / "mini-atm.service")["ExecStart"]
    assert program == "atm"
    assert len(shown) == 5
    group: Any = get_command(app)
    for arguments in [words, served.split()[1:], *map(shlex.split, shown)]:
        with group.make_context("atm", list(arguments)) as parent:
            assert_parsed(group, arguments, parent)


def assert_parsed(group: Any, arguments: list[str], parent: Any) -> None:
    """Require that a group has the command, and that the command accepts its arguments."""
    command = group.commands[arguments[0]]
    context = command.make_context(arguments[0], arguments[1:], parent=parent)
    if hasattr(command, "commands"):
        assert_parsed(command, arguments[1:], context)
