"""decide(): replay, refusal or application, and the numbers of the entries."""

from datetime import UTC, datetime

from atm_core import (
    Account,
    AccountAlreadyExists,
    AccountClosed,
    AccountNotFound,
    BalanceOutOfRange,
    Closing,
    Deposit,
    Entry,
    IdempotencyKeyReused,
    LimitChange,
    Opening,
    Reopening,
    Transaction,
    Withdrawal,
    decide,
)


def test_outcomes_and_entries_to_write_are_returned() -> None:
    recorded = Entry(Deposit("0", 5, "old"), Account("0", 77, last_entry=3), datetime.now(UTC))
    transactions: list[Transaction] = [
        Deposit("0", 1, "new"),
        Deposit("0", 1, "new"),
        Deposit("0", 2, "new"),
        Deposit("0", 5, "old"),
        Withdrawal("0", 5, "old"),
        Deposit("9", 1),
        Withdrawal("0", "9999999999999.99"),
        Withdrawal("0", "9999999999999.99"),
    ]
    accounts = {"0": Account("0", 1000, last_entry=8)}

    outcomes, entries = decide(transactions, accounts, {("0", "old"): recorded})

    assert outcomes[:2] == [Account("0", 1001)] * 2
    assert outcomes[3] is recorded.account
    assert outcomes[6] == Account("0", "-9999999998998.99")
    assert [type(outcomes[n]) for n in (2, 4, 5, 7)] == [
        IdempotencyKeyReused,
        IdempotencyKeyReused,
        AccountNotFound,
        BalanceOutOfRange,
    ]
    assert entries == [
        Entry(transactions[0], Account("0", 1001)),
        Entry(transactions[6], Account("0", "-9999999998998.99")),
    ]
    assert [entry.account.last_entry for entry in entries] == [9, 10]
    assert accounts == {"0": Account("0", "-9999999998998.99")}


def test_whole_life_of_an_account_fits_in_one_batch() -> None:
    transactions: list[Transaction] = [
        Deposit("0", 1),
        Opening("0", 5, 0, 4, "opening"),
        Opening("0", 5),
        Withdrawal("0", 4),
        Withdrawal("0", 1),
        Closing("0"),
        Deposit("0", 1),
        LimitChange("0", None, None),
        Opening("0", 5, 0, 4, "opening"),
        Reopening("0"),
        Withdrawal("0", 9),
    ]
    accounts: dict[str, Account] = {}

    outcomes, entries = decide(transactions, accounts, {})

    refused = {n: type(outcome) for n, outcome in enumerate(outcomes) if not isinstance(outcome, Account)}
    assert refused == {0: AccountNotFound, 2: AccountAlreadyExists, 6: AccountClosed}
    assert [entry.transaction for entry in entries] == [transactions[n] for n in (1, 3, 4, 5, 7, 9, 10)]
    assert [entry.account.last_entry for entry in entries] == [1, 2, 3, 4, 5, 6, 7]
    assert outcomes[8] == Account("0", 5, 0, 4)
    assert accounts == {"0": Account("0", -9)}


def test_key_is_scoped_to_its_account() -> None:
    accounts = {"0": Account("0", 0), "1": Account("1", 0)}
    recorded = {("1", "key"): Entry(Deposit("1", 5, "key"), Account("1", 5))}
    outcomes, entries = decide([Deposit("0", 7, "key")], accounts, recorded)
    assert outcomes == [Account("0", 7)]
    assert len(entries) == 1


def test_another_note_under_the_same_key_is_another_transaction() -> None:
    accounts = {"0": Account("0", 0)}
    outcomes, _ = decide([Deposit("0", 1, "key", note) for note in ("a", "b", None, "a")], accounts, {})
    assert [type(outcome) for outcome in outcomes] == [Account, IdempotencyKeyReused, IdempotencyKeyReused, Account]
    assert accounts["0"].balance == 1
