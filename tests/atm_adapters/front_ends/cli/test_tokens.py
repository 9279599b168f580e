"""``atm token``: what it prints, what it refuses, and what it leaves in the file. See also ``http/test_tokens.py``."""

import json
import os
import re
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from support.atm_process import ATM, run_atm
from support.cli import Atm

TOKEN = re.compile(r"atm_([0-9a-f]{8})_[0-9a-f]{64}")
ADD = "token add till --may read,move --account 0 --tokens tokens.toml"


def names(atm: Atm) -> list[str]:
    """Return the names of the tokens in the file."""
    code, output, _ = atm("token", "list", "--tokens", "tokens.toml")
    assert code == 0
    return [line.split("\t")[0] for line in output.splitlines()]


def test_token_is_printed_once_and_not_stored(atm: Atm) -> None:
    code, token, error = atm(*ADD.split())
    assert (code, error) == (0, "")
    assert TOKEN.fullmatch(token.rstrip("\n"))
    file = atm.folder / "tokens.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sha256(token.strip().encode()).hexdigest() in file.read_text()
    secret = token.strip().rpartition("_")[2]
    for output in (file.read_text(), *atm("token", "list", "--tokens", "tokens.toml")[1:]):
        assert secret not in output
    assert [path.name for path in atm.folder.iterdir()] == ["tokens.toml"]


def test_list_shows_every_fact_but_the_secret(atm: Atm) -> None:
    today = datetime.now(UTC).date().isoformat()
    printed = [
        atm(*ADD.split(), "--account", "1", "--account", "0")[1],
        atm("token", "add", "ops", "--may", "monitor, manage", "--all-accounts", "--tokens", "tokens.toml",
            "--expires", today)[1],
    ]  # fmt: skip
    ids = [found[1] for found in map(TOKEN.match, printed) if found]
    with (atm.folder / "tokens.toml").open("a") as file:
        file.write(
            f'[old]\nid = "00000000"\nsha256 = "{"0" * 64}"\nmay = ["monitor"]\naccounts = []\nexpires = 2020-01-01\n'
        )
    atm.environment["ATM_TOKENS_FILE"] = "tokens.toml"
    assert atm("token", "list")[1].splitlines() == [
        f"till\t{ids[0]}\tread,move\t0,1\t\tvalid",
        f"ops\t{ids[1]}\tmanage,monitor\tall\t{today}\tvalid",
        "old\t00000000\tmonitor\t\t2020-01-01\texpired",
    ]
    tokens = json.loads(atm("token", "list", "--json")[1])["tokens"]
    assert tokens[0] == {
        "name": "till", "id": ids[0], "may": ["read", "move"], "accounts": ["0", "1"], "expires": None, "expired": False
    }  # fmt: skip
    assert [(each["accounts"], each["expires"], each["expired"]) for each in tokens[1:]] == [
        ("all", today, False),
        ([], "2020-01-01", True),
    ]
    table = atm.in_terminal("token", "list").splitlines()
    assert table[0].split() == ["Name", "Id", "May", "Accounts", "Last", "day", "Status"]
    assert table[3].split() == ["old", "00000000", "monitor", "2020-01-01", "expired"]
    assert len({line.rindex(line.split()[-1]) for line in table}) == 1


def test_json_results_name_the_token(atm: Atm) -> None:
    made = json.loads(atm(*ADD.split(), "--json")[1])
    found = TOKEN.fullmatch(made["token"])
    assert found
    assert made == {"name": "till", "id": found[1], "token": found[0]}
    code, output, _ = atm(*["token", "revoke", "till", "--tokens", "tokens.toml", "--json"])
    assert (code, json.loads(output)) == (0, {"name": "till", "id": found[1]})
    code, _, error = atm(*["token", "revoke", "till", "--tokens", "tokens.toml", "--json"])
    assert (code, json.loads(error)["error"]["code"]) == (3, "token-not-found")


def test_revoked_name_is_free_again(atm: Atm) -> None:
    assert atm(*ADD.split())[0] == 0
    assert atm("token", "revoke", "till", "--tokens", "tokens.toml") == (0, "Revoked till.\n", "")
    assert names(atm) == []
    assert atm(*ADD.split())[0] == 0
    assert names(atm) == ["till"]


YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (ADD, 3, "There is a token named till in tokens.toml already. Choose another name, or revoke it first."),
        ("token revoke tilt --tokens tokens.toml", 3, "There is no token named tilt in tokens.toml. To list those"),
        ("token revoke till --tokens other.toml", 3, "There is no token named till in other.toml."),
        ("token list --tokens other.toml", 4, "The tokens file other.toml cannot be used: No such file or directory."),
        ("token list --tokens .", 4, "cannot be used: Is a directory."),
        (f"{ADD.replace('tokens.toml', 'no/x')}", 4, "its folder cannot be opened (No such file or directory)."),
        (ADD.replace("till", "a.b"), 2, "'a.b' is not a name of 1 to 64 characters of A-Z a-z 0-9 _ -."),
        (ADD.replace("till", "x" * 65), 2, "is not a name of 1 to 64 characters"),
        (
            ADD.replace("read,move", "read,write"),
            2,
            "'read,write' is not a list of verbs. Use one or more of read, mov",
        ),
        (ADD.replace("read,move", "READ"), 2, "is not a list of verbs."),
        (f"{ADD} --account a.b", 2, "The account number 'a.b' must be a string of 1 to 64 characters"),
        (f"{ADD} --all-accounts", 2, "--all-accounts includes every account. Use one of the two."),
        (ADD.replace("--account 0", ""), 2, "Name each account that the token may use, or use --all-accounts."),
        (f"{ADD} --expires soon", 2, "'soon' is not a date such as 2027-01-31."),
        (f"{ADD} --expires 2027-02-30", 2, "'2027-02-30' is not a date such as 2027-01-31."),
        (f"{ADD} --expires {YESTERDAY}", 2, f"{YESTERDAY} has passed. Use "),
        ("token add till --may read --account 0", 2, "Missing option '--tokens' (env var: 'ATM_TOKENS_FILE')."),
        ("token ad", 2, "Did you mean 'add'?"),
    ],
)
def test_refusal_says_what_would_be_right(atm: Atm, command: str, code: int, message: str) -> None:
    assert atm(*ADD.split())[0] == 0
    before = (atm.folder / "tokens.toml").read_text()
    atm.assert_fails(command, code, message)
    assert (atm.folder / "tokens.toml").read_text() == before
    assert not (atm.folder / "other.toml").exists()


@pytest.mark.parametrize("command", [ADD, "token list --tokens tokens.toml", "token revoke x --tokens tokens.toml"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[till]\n= 1\n", "(at line 2, column 1)"),
        (b"[till]\nid = 1\n", "$[...].id"),
        (b"\xff", "can't decode"),
        (b"[till]\n\n", "missing required field"),
    ],
)
def test_malformed_file_is_left_alone(atm: Atm, command: str, content: bytes, message: str) -> None:
    file = atm.folder / "tokens.toml"
    file.write_bytes(content)
    code, output, error = atm(*command.split())
    assert (code, output) == (4, "")
    assert error.startswith("atm: The tokens file tokens.toml cannot be used: ")
    assert message in error
    assert error.count("\n") == 1
    assert file.read_bytes() == content


def test_no_token_is_printed_if_it_cannot_be_stored(atm: Atm) -> None:
    folder = atm.folder / "full"
    folder.mkdir()
    (folder / "tokens.toml").symlink_to("/proc/tokens.toml")  # where root cannot create files either
    code, output, error = atm(*ADD.replace("tokens.toml", "full/tokens.toml").split())
    assert (code, output) == (4, "")
    assert "it cannot be written" in error


def test_token_that_cannot_be_printed_is_reported_without_it(atm: Atm) -> None:
    code, error = atm.with_full_disk(*ADD.split())
    assert code == 1
    assert error == (
        "atm: The token till was made, but it could not be printed. Revoke it, and make another one: "
        "No space left on device.\n"
    )
    assert names(atm) == ["till"]


def test_no_token_is_made_without_standard_output(atm: Atm) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        ["/bin/sh", "-c", f'exec "$0" {ADD} >&-', ATM],
        cwd=atm.folder,
        env=atm.environment,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("atm: Standard output is closed")
    assert not (atm.folder / "tokens.toml").exists()


def test_owner_mode_and_link_are_kept(atm: Atm) -> None:
    target = atm.folder / "elsewhere" / "real.toml"
    target.parent.mkdir()
    target.touch()
    target.chmod(0o640)
    owner = (10001, 10002) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(target, *owner)
    link = atm.folder / "tokens.toml"
    link.symlink_to(target)
    assert atm(*ADD.split())[0] == 0
    assert link.is_symlink()
    found = target.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (*owner, 0o640)
    assert names(atm) == ["till"]


def test_concurrent_commands_lose_no_token(atm: Atm) -> None:
    def add(number: int) -> int:
        arguments = ADD.replace("till", f"till-{number}").split()
        return run_atm(*arguments, env=atm.environment, cwd=atm.folder).returncode

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(add, range(16))) == {0}
    assert sorted(names(atm)) == sorted(f"till-{number}" for number in range(16))
