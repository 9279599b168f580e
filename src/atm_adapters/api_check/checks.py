"""All checks, as data."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from atm_adapters.api_check import keys, movements, refusals
from atm_adapters.api_check.server import Server


class Check(NamedTuple):
    """One thing to check: its name, as a sentence, and how. It is passed unless it raises."""

    name: str
    run: Callable[[Server], Awaitable[None]]


# In this order: what ruins an account, if anything does, comes last.
CHECKS: Final = (
    Check("A balance is answered as JSON", movements.balances_are_answered),
    Check("A deposit answers the new balance", movements.deposits_are_answered),
    Check("A withdrawal answers the new balance", movements.withdrawals_are_answered),
    Check("An amount may be a string", movements.amounts_may_be_strings),
    Check("An account may go below zero", movements.overdrafts_are_allowed),
    Check("Accounts are kept apart", movements.accounts_are_apart),
    Check("Cents stay exact", movements.cents_stay_exact),
    Check("Concurrent transactions all count", movements.concurrent_transactions_count),
    Check("A retry under its key counts once", keys.retries_count_once),
    Check("Concurrent retries under one key count once", keys.concurrent_retries_count_once),
    Check("A key belongs to one transaction", keys.keys_belong_to_one_transaction),
    Check("Ill-formed keys are refused", keys.ill_formed_keys_are_refused),
    Check("Accounts that do not exist are refused", refusals.accounts_that_do_not_exist_are_refused),
    Check("Reading moves no money", refusals.reading_moves_no_money),
    Check("Errors are problem documents (RFC 9457)", refusals.errors_are_problem_documents),
    Check("Bodies that are not JSON by their type are refused", refusals.other_media_types_are_refused),
    Check("Large bodies are refused", refusals.large_bodies_are_refused),
    Check("Pages of other sites are refused", refusals.foreign_pages_are_refused),
    Check("Bodies without an amount are refused", refusals.bodies_without_an_amount_are_refused),
    Check("Amounts that are not positive are refused", refusals.amounts_that_are_not_positive_are_refused),
    Check("Amounts that are no numbers are refused", refusals.amounts_that_are_no_numbers_are_refused),
    Check("Fractions of a cent are not rounded", refusals.fractions_of_a_cent_are_not_rounded),
    Check("Balances have a limit", movements.balances_have_a_limit),
    Check("Amounts that no account can hold are refused", refusals.amounts_that_no_account_holds_are_refused),
)
