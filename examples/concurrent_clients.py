"""Concurrent clients on one account over HTTP, and the edge cases of the API.

Requirements: Mini-ATM (``pip install .``), and a running server whose accounts no other client uses
(``atm serve --store memory:``).

Usage: ``python examples/concurrent_clients.py [http://127.0.0.1:8000]``

The program asserts every step. It prints a line for each, and "All as expected." at the end.
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
    """Run every step against the server at this address."""
    with httpx.Client(base_url=address, timeout=30) as atm:
        opening = balance(atm, "0")
        print(f"Account 0 holds {opening}.")

        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = list(clients.map(deposit_many, [atm] * CLIENTS))
        deposited = Decimal("0.01") * CLIENTS * DEPOSITS_EACH
        answered = [one for balances in answers for one in balances]
        assert sorted(answered) == [opening + Decimal(cent) / 100 for cent in range(1, CLIENTS * DEPOSITS_EACH + 1)]
        assert balance(atm, "0") == opening + deposited
        print(
            f"{CLIENTS} clients made {DEPOSITS_EACH} deposits of 0.01 each, at once: the balance rose by {deposited}."
        )

        key = str(uuid4())
        with ThreadPoolExecutor(CLIENTS) as clients:
            repeated = list(clients.map(lambda _: transact(atm, "deposit", "0", '"100"', key), range(CLIENTS)))
        assert [answer.status_code for answer in repeated] == [200] * CLIENTS
        assert balance(atm, "0") == opening + deposited + 100
        print(f"{CLIENTS} clients sent one deposit of 100 with the same key, at once: it was applied once.")

        held = balance(atm, "0")
        overdrawn = transact(atm, "withdraw", "0", str(held + 1))
        assert overdrawn.status_code == 200
        assert balance(atm, "0") == -1
        print("A withdrawal of more than the balance left the account at -1.00: overdraft is allowed.")
        assert transact(atm, "deposit", "0", str(held + 1)).status_code == 200

        for what, answer, status in [
            ("zero", transact(atm, "deposit", "0", "0"), 422),
            ("a negative amount", transact(atm, "deposit", "0", "-5"), 422),
            ("a third decimal", transact(atm, "deposit", "0", "0.001"), 422),
            ("an amount that is not a number", transact(atm, "withdraw", "0", '"much"'), 422),
            ("malformed JSON", atm.post("/accounts/0/deposit", content=b"{amount: 5", headers=JSON), 422),
            ("JSON without an amount", atm.post("/accounts/0/deposit", json={}), 422),
            ("an empty body", atm.post("/accounts/0/deposit"), 422),
            ("the same key for another transaction", transact(atm, "withdraw", "0", "100", key), 422),
            ("a wrong method", atm.get("/accounts/0/deposit"), 405),
            ("an unknown account", transact(atm, "deposit", "no-such-account", "5"), 404),
            ("an unknown path", atm.get("/nothing/here"), 404),
        ]:
            assert answer.status_code == status, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            print(f"{status} for {what}: {answer.json()['detail']}")

        assert balance(atm, "0") == held == opening + deposited + 100
        print(f"Account 0 holds {held}. All as expected.")


def balance(atm: httpx.Client, account_number: str) -> Decimal:
    """Read a balance."""
    return exact(atm.get(f"/accounts/{account_number}/balance"))


def transact(atm: httpx.Client, call: str, account_number: str, amount: str, key: str | None = None) -> httpx.Response:
    """Deposit or withdraw an amount, which is a JSON number or string."""
    headers = JSON | ({"Idempotency-Key": key} if key else {})
    return atm.post(f"/accounts/{account_number}/{call}", content=f'{{"amount": {amount}}}', headers=headers)


def deposit_many(atm: httpx.Client) -> list[Decimal]:
    """Make deposits of 0.01 one after the other, and return the balances after them."""
    return [exact(transact(atm, "deposit", "0", "0.01")) for _ in range(DEPOSITS_EACH)]


def exact(answer: httpx.Response) -> Decimal:
    """Return the exact balance in a response, decoded without a float."""
    assert answer.status_code == 200, answer.text
    balance: Decimal = answer.json(parse_float=Decimal)["balance"]
    return balance


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
