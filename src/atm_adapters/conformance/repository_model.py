"""Random calls of a repository, compared with a plain model of the rules. The repository contract runs them.

The model is a second statement of the rules, with integers and without the core's functions.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from decimal import Decimal
from typing import NamedTuple, TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from atm_adapters.conformance.repository_history import Accounts
from atm_core import (
    MAX_MONEY,
    Account,
    AccountAlreadyExists,
    AccountClosed,
    AccountNotClosed,
    AccountNotFound,
    AtmError,
    BalanceNotZero,
    BalanceOutOfRange,
    Entry,
    IdempotencyKeyReused,
    InsufficientFunds,
    Transaction,
    WithdrawalLimitExceeded,
)
from atm_core.money import to_minor_units
from atm_core.transaction import transaction_of
from atm_core.use_cases import get_account, read_history

_MAX_CENTS = to_minor_units(MAX_MONEY)


class _Request(NamedTuple):
    """A transaction without its account and its key. Sums are in cents."""

    kind: str
    cents: int | None = None
    overdraft_limit: int | None = None
    withdrawal_limit: int | None = None
    note: str | None = None


class _State(NamedTuple):
    """An account. Sums are in cents."""

    cents: int
    overdraft_limit: int | None
    withdrawal_limit: int | None
    closed: bool
    entry: int


_Answer: TypeAlias = _State | type[AtmError]
_Recorded: TypeAlias = tuple[_Request, str | None, _State]


class _ModelAccount:
    """An account of the model, and its entries: request, key and state after it."""

    def __init__(self) -> None:
        self.state: _State | None = None
        self.entries: list[_Recorded] = []

    def execute(self, request: _Request, key: str | None) -> _Answer:
        """Return the state that must be answered, or the class of the refusal."""
        for first, first_key, first_answer in self.entries:
            if key is not None and key == first_key:
                return first_answer if first == request else IdempotencyKeyReused
        answer = self._apply(request)
        if isinstance(answer, _State):
            self.state = answer
            self.entries.append((request, key, answer))
        return answer

    def _apply(self, request: _Request) -> _Answer:
        state, cents = self.state, request.cents or 0
        if request.kind == "opening":
            limits = request.overdraft_limit, request.withdrawal_limit
            return AccountAlreadyExists if state else _State(cents, *limits, closed=False, entry=1)
        if state is None:
            return AccountNotFound
        after = state._replace(entry=state.entry + 1)
        match request.kind:
            case "limit-change":
                return after._replace(
                    overdraft_limit=request.overdraft_limit, withdrawal_limit=request.withdrawal_limit
                )
            case "reopening":
                return after._replace(closed=False) if state.closed else AccountNotClosed
            case _ if state.closed:
                return AccountClosed
            case "closing":
                return BalanceNotZero if state.cents else after._replace(closed=True)
            case "deposit":
                return (
                    after._replace(cents=state.cents + cents)
                    if state.cents + cents <= _MAX_CENTS
                    else BalanceOutOfRange
                )
            case _:
                return self._withdraw(state, cents)

    def _withdraw(self, state: _State, cents: int) -> _Answer:
        left = state.cents - cents
        if state.withdrawal_limit is not None and cents > state.withdrawal_limit:
            return WithdrawalLimitExceeded
        if state.overdraft_limit is not None and left < -state.overdraft_limit:
            return InsufficientFunds
        if left < -_MAX_CENTS:
            return BalanceOutOfRange
        return state._replace(cents=left, entry=state.entry + 1)


_numbers = st.sampled_from(["0", "1", "opened-later", "never_opened"])
_cents = st.one_of(st.integers(1, 1_000), st.integers(1, 100_000), st.integers(1, _MAX_CENTS))
_limits = st.none() | st.sampled_from([0, 500, 100_000])
_keys = st.one_of(st.none(), st.sampled_from(["a", "b", "c"]))
_notes = st.sampled_from([None, None, "order 1234", "Größe 😀"])


class ModelComparison(RuleBasedStateMachine):
    """Random calls whose results are compared with those of the model."""

    new_repository: Callable[[], AbstractContextManager[Accounts]]

    def __init__(self) -> None:
        super().__init__()
        self._cleanup = ExitStack()
        self._accounts = self._cleanup.enter_context(self.new_repository())
        self._model = {number: _ModelAccount() for number in ("0", "1", "opened-later", "never_opened")}
        self._sent: list[tuple[str, _Request, str]] = []  # those with a key

    def teardown(self) -> None:
        self._cleanup.close()

    @initialize(limit=_limits)
    def open_two_accounts(self, limit: int | None) -> None:
        self._execute("0", _Request("opening", 100_000))
        self._execute("1", _Request("opening", 100_000, limit, 50_000))

    @rule(
        number=_numbers.filter(lambda number: number != "never_opened"),
        cents=st.just(0) | _cents | _cents.map(lambda cents: -cents),
        overdraft_limit=_limits,
        withdrawal_limit=_limits,
        key=_keys,
        note=_notes,
    )
    def open(
        self,
        number: str,
        cents: int,
        overdraft_limit: int | None,
        withdrawal_limit: int | None,
        key: str | None,
        note: str | None,
    ) -> None:
        self._execute(number, _Request("opening", cents, overdraft_limit, withdrawal_limit, note), key)

    @rule(kind=st.sampled_from(["deposit", "withdrawal"]), number=_numbers, cents=_cents, key=_keys, note=_notes)
    def move(self, kind: str, number: str, cents: int, key: str | None, note: str | None) -> None:
        self._execute(number, _Request(kind, cents, note=note), key)

    @rule(number=_numbers)
    def move_to_zero(self, number: str) -> None:
        state = self._model[number].state
        if state is not None and state.cents:
            self._execute(number, _Request("withdrawal" if state.cents > 0 else "deposit", abs(state.cents)))

    @rule(number=_numbers)
    def withdraw_all_that_is_available(self, number: str) -> None:
        state = self._model[number].state
        if state is not None and state.overdraft_limit is not None and state.cents + state.overdraft_limit > 0:
            self._execute(number, _Request("withdrawal", min(state.cents + state.overdraft_limit, _MAX_CENTS)))

    @rule(number=_numbers, overdraft_limit=_limits, withdrawal_limit=_limits, key=_keys, note=_notes)
    def set_limits(
        self, number: str, overdraft_limit: int | None, withdrawal_limit: int | None, key: str | None, note: str | None
    ) -> None:
        self._execute(number, _Request("limit-change", None, overdraft_limit, withdrawal_limit, note), key)

    @rule(kind=st.sampled_from(["closing", "reopening"]), number=_numbers, key=_keys, note=_notes)
    def close_or_reopen(self, kind: str, number: str, key: str | None, note: str | None) -> None:
        self._execute(number, _Request(kind, note=note), key)

    @precondition(lambda self: self._sent)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        self._execute(*data.draw(st.sampled_from(self._sent)))

    @rule(
        number=_numbers,
        cursor=st.none() | st.integers(1, 15),
        direction=st.sampled_from(["before", "after"]),
        limit=st.integers(1, 10),
    )
    def read_page(self, number: str, cursor: int | None, direction: str, limit: int) -> None:
        before, after = (cursor, None) if direction == "before" else (None, cursor or 0)
        try:
            page = read_history(self._accounts, number, before=before, after=after, limit=limit)
        except AccountNotFound:
            assert self._model[number].state is None
            return
        entries = self._model[number].entries
        expected = entries[after:] if after is not None else entries[: before and before - 1][::-1]
        assert (len(page.entries), page.has_more) == (min(len(expected), limit), len(expected) > limit)
        assert list(map(_recorded, page.entries, expected)) == expected[:limit]

    @rule(number=_numbers)
    def read(self, number: str) -> None:
        self._check(lambda: get_account(self._accounts, number), self._model[number].state or AccountNotFound)

    def _execute(self, number: str, request: _Request, key: str | None = None) -> None:
        if key is not None:
            self._sent.append((number, request, key))
        expected = self._model[number].execute(request, key)
        self._check(lambda: self._accounts.execute(_transaction(number, request, key)), expected)
        self.read(number)

    def _check(self, call: Callable[[], Account], expected: _Answer) -> None:
        try:
            answer: _Answer = _state(call())
        except AtmError as refusal:
            answer = type(refusal)
        assert answer == expected


def _transaction(number: str, request: _Request, key: str | None) -> Transaction:
    kind, cents, overdraft_limit, withdrawal_limit, note = request
    return transaction_of(kind, number, _money(cents), _money(overdraft_limit), _money(withdrawal_limit), key, note)


def _state(account: Account) -> _State:
    limits = _in_cents(account.overdraft_limit), _in_cents(account.withdrawal_limit)
    return _State(to_minor_units(account.balance), *limits, account.closed, account.last_entry)


def _recorded(entry: Entry, expected: _Recorded) -> _Recorded:
    transaction = entry.transaction
    key = None if expected[1] is None else transaction.key  # see transaction_as_sent()
    request = _Request(
        transaction.kind,
        _in_cents(entry.amount),
        _in_cents(getattr(transaction, "overdraft_limit", None)),
        _in_cents(getattr(transaction, "withdrawal_limit", None)),
        transaction.note,
    )
    return request, key, _state(entry.account)


def _money(cents: int | None) -> Decimal | None:
    return None if cents is None else Decimal(cents) / 100


def _in_cents(money: Decimal | None) -> int | None:
    return None if money is None else to_minor_units(money)
