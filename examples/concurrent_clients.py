"""Several clients at once on the same account over HTTP, and the edge cases one by one.

What it needs: Mini-ATM (``pip install .``), and a running server whose accounts nobody else is using
(``atm serve --store memory:``).

How to run it: ``python examples/concurrent_clients.py [http://127.0.0.1:8000]``

What you should see: a line for each step, then "All as expected." Every step is asserted.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import uuid4

import httpx

CLIENTS = 8
DEPOSITS_EACH = 50
JSON = {"Content-Type": "application/json"}


def main(address: str) -> None:
    """Play every step against the server at this address."""
    with httpx.Client(base_url=address, timeout=30) as atm:
        opening = balance(atm, "0")
        print(f"Account 0 holds {opening}.")

        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = list(clients.map(deposit_many, [atm] * CLIENTS))
        deposited = Decimal("0.01") * CLIENTS * DEPOSITS_EACH
        answered = [one for balances in answers for one in balances]
        assert sorted(answered) == [opening + Decimal(cent) / 100 for cent in range(1, CLIENTS * DEPOSITS_EACH + 1)]
        assert balance(atm, "0") == opening + deposited
        print(f"{CLIENTS} clients made {DEPOSITS_EACH} deposits of 0.01 each, at once: {deposited} more, none lost.")

        key = str(uuid4())
        with ThreadPoolExecutor(CLIENTS) as clients:
            repeated = list(clients.map(lambda _: move(atm, "deposit", "0", '"100"', key), range(CLIENTS)))
        assert [answer.status_code for answer in repeated] == [200] * CLIENTS
        assert balance(atm, "0") == opening + deposited + 100
        print(f"{CLIENTS} clients sent one deposit of 100 under one key, at once: it counted once.")

        held = balance(atm, "0")
        overdrawn = move(atm, "withdraw", "0", str(held + 1))
        assert overdrawn.status_code == 200
        assert balance(atm, "0") == -1
        print("A withdrawal of more than there is left the account at -1.00: overdraft is allowed.")
        assert move(atm, "deposit", "0", str(held + 1)).status_code == 200

        for what, answer, status in [
            ("zero", move(atm, "deposit", "0", "0"), 422),
            ("a negative amount", move(atm, "deposit", "0", "-5"), 422),
            ("a third decimal", move(atm, "deposit", "0", "0.001"), 422),
            ("an amount that is text", move(atm, "withdraw", "0", '"much"'), 422),
            ("malformed JSON", atm.post("/accounts/0/deposit", content=b"{amount: 5", headers=JSON), 422),
            ("JSON without an amount", atm.post("/accounts/0/deposit", json={}), 422),
            ("no JSON at all", atm.post("/accounts/0/deposit"), 422),
            ("the key again for something else", move(atm, "withdraw", "0", "100", key), 422),
            ("a wrong method", atm.get("/accounts/0/deposit"), 405),
            ("an unknown account", move(atm, "deposit", "no-such-account", "5"), 404),
            ("an unknown path", atm.get("/nothing/here"), 404),
        ]:
            assert answer.status_code == status, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            print(f"{status} for {what}: {answer.json()['detail']}")

        assert balance(atm, "0") == held == opening + deposited + 100
        print(f"Account 0 holds {held}. All as expected.")


def balance(atm: httpx.Client, account_number: str) -> Decimal:
    """Read a balance, exactly."""
    return exact(atm.get(f"/accounts/{account_number}/balance"))


def move(atm: httpx.Client, call: str, account_number: str, amount: str, key: str | None = None) -> httpx.Response:
    """Deposit or withdraw an amount, given as it is to stand in the JSON."""
    headers = JSON | ({"Idempotency-Key": key} if key else {})
    return atm.post(f"/accounts/{account_number}/{call}", content=f'{{"amount": {amount}}}', headers=headers)


def deposit_many(atm: httpx.Client) -> list[Decimal]:
    """Make deposits of 0.01 one after the other, and give the balances that were answered."""
    return [exact(move(atm, "deposit", "0", "0.01")) for _ in range(DEPOSITS_EACH)]


def exact(answer: httpx.Response) -> Decimal:
    """Take the balance from an answer by its digits, past any float."""
    assert answer.status_code == 200, answer.text
    balance: Decimal = answer.json(parse_float=Decimal)["balance"]
    return balance


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
