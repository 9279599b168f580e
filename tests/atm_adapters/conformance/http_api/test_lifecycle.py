"""The checks of entry numbers, openings, limits, histories and closing find the faults of a repository."""

import asyncio
from collections.abc import Awaitable
from itertools import count

import pytest
from support.http_api_check import LIFECYCLE_CHECKS, check, failures, select_checks, with_outcome
from support.reference_api import serving

from atm_adapters.front_ends.http.app import create_app
from atm_adapters.repositories.bridges import InlineBridge
from atm_adapters.repositories.memory import InMemoryAccountRepository
from atm_core import (
    Account,
    AccountClosed,
    AccountRepository,
    Closing,
    Deposit,
    LimitChange,
    Opening,
    Page,
    Transaction,
    Withdrawal,
)


class Memory(InlineBridge):
    """A correct store, and the base class of the faulty ones."""

    def __init__(self) -> None:
        super().__init__(InMemoryAccountRepository([Account("0", 1000), Account("1", 1000)]))


class SkipsNumbers(Memory):
    numbers = count(1, 2)

    async def execute(self, transaction: Transaction, /) -> Account:
        account = await super().execute(transaction)
        return Account(account.account_number, account.balance, last_entry=next(self.numbers))


class NumbersRefusals(Memory):
    async def execute(self, transaction: Transaction, /) -> Account:
        if isinstance(transaction, Withdrawal):
            await super().execute(LimitChange(transaction.account_number, None, None))
        return await super().execute(transaction)


class OpensTwice(Memory):
    async def execute(self, transaction: Transaction, /) -> Account:
        if isinstance(transaction, Opening):
            transaction = Deposit(transaction.account_number, 1) if transaction.balance else transaction
        return await super().execute(transaction)


class ForgetsLimits(Memory):
    async def execute(self, transaction: Transaction, /) -> Account:
        if isinstance(transaction, LimitChange):
            transaction = LimitChange(transaction.account_number, transaction.overdraft_limit, None)
        return await super().execute(transaction)


class ChecksFundsTooEarly(Memory):
    async def execute(self, transaction: Transaction, /) -> Account:
        if not isinstance(transaction, Withdrawal):
            return await super().execute(transaction)
        number = transaction.account_number
        account = transaction.apply(await self.get(number))
        await asyncio.sleep(0.1)  # of a slow disk
        await super().execute(LimitChange(number, None, None))
        after = await super().execute(transaction)
        await super().execute(LimitChange(number, account.overdraft_limit, account.withdrawal_limit))
        return after


class RepeatsEntries(Memory):
    async def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        before = None if before is None else before + 1
        return await super().history(account_number, before=before, after=after, limit=limit)


class LosesEntries(Memory):
    async def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        after = None if after is None else after + 1
        return await super().history(account_number, before=before, after=after, limit=limit)


class EndsHistoryEarly(Memory):
    async def history(self, account_number: str, /, *, before: int | None, after: int | None, limit: int) -> Page:
        page = await super().history(account_number, before=before, after=after, limit=limit)
        return page._replace(has_more=False)


class ClosesWithBalance(Memory):
    async def execute(self, transaction: Transaction, /) -> Account:
        if isinstance(transaction, Closing):
            balance = (await self.get(transaction.account_number)).balance
            if balance > 0:
                await super().execute(Withdrawal(transaction.account_number, balance))
        return await super().execute(transaction)


class DepositsToClosed(Memory):
    async def execute(self, transaction: Transaction, /) -> Account:
        try:
            return await super().execute(transaction)
        except AccountClosed:
            return await self.get(transaction.account_number)


class WithoutHistory:
    """A correct store without history."""

    def __init__(self) -> None:
        self._memory = Memory()

    def get(self, account_number: str, /) -> Awaitable[Account]:
        return self._memory.get(account_number)

    def execute(self, transaction: Transaction, /) -> Awaitable[Account]:
        return self._memory.execute(transaction)


@pytest.mark.parametrize(
    ("store", "found_by"),
    [
        (SkipsNumbers, "Entries are numbered without gaps"),
        (NumbersRefusals, "Entries are numbered without gaps"),
        (OpensTwice, "An account is opened once"),
        (ForgetsLimits, "Limits are shown and obeyed"),
        (ChecksFundsTooEarly, "Limits are shown and obeyed"),
        (RepeatsEntries, "A history has each entry once"),
        (LosesEntries, "A history has each entry once"),
        (EndsHistoryEarly, "A history has each entry once"),
        (ClosesWithBalance, "Accounts can be closed and reopened"),
        (DepositsToClosed, "Accounts can be closed and reopened"),
    ],
)
def test_faulty_store_fails_the_check(store: type[Memory], found_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    select_checks(monkeypatch, found_by)
    with serving(create_app(store())) as address:
        report, _ = check(address)
    assert failures(report) == {found_by}


def test_correct_store_passes_and_keeps_a_closed_account(monkeypatch: pytest.MonkeyPatch) -> None:
    select_checks(monkeypatch, *LIFECYCLE_CHECKS)
    with serving(create_app(Memory())) as address:
        report, messages = check(address)
    assert with_outcome(report, "passed") == LIFECYCLE_CHECKS
    assert "Its balance is 0.00, and it is closed." in messages


def test_missing_call_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    select_checks(monkeypatch, *LIFECYCLE_CHECKS)
    store: AccountRepository[Awaitable[Account]] = WithoutHistory()
    with serving(create_app(store)) as address:
        report, _ = check(address)
    assert failures(report) == set()
    assert with_outcome(report, "not supported") == {"A history has each entry once"}
