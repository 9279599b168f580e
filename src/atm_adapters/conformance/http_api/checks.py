"""The list of all checks."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

from atm_adapters.conformance.http_api import keys, lifecycle, rejections, tokens, transactions
from atm_adapters.conformance.http_api.server import Server


class Check(NamedTuple):
    """A check: a sentence that is true of a correct server, and a function that raises if it is false."""

    name: str
    run: Callable[[Server], Awaitable[None]]


# Checks that may ruin an account of a faulty server come last.
CHECKS: Final = (
    Check("Balances are returned as JSON", transactions.balances_are_json),
    Check("A deposit returns the new balance", transactions.deposits_return_the_new_balance),
    Check("A withdrawal returns the new balance", transactions.withdrawals_return_the_new_balance),
    Check("Amounts may be JSON strings", transactions.amounts_may_be_strings),
    Check("Balances may be negative", transactions.balances_may_be_negative),
    Check("A transaction changes no other account", transactions.accounts_are_independent),
    Check("Balances are exact to the cent", transactions.balances_are_exact),
    Check("Concurrent transactions are all applied", transactions.concurrent_transactions_are_applied),
    Check("A retry with the same key is applied once", keys.retries_are_applied_once),
    Check("Concurrent retries with the same key are applied once", keys.concurrent_retries_are_applied_once),
    Check("A key cannot be reused for another transaction", keys.keys_identify_one_transaction),
    Check("Malformed keys are rejected", keys.malformed_keys_are_rejected),
    Check("Entries are numbered without gaps", lifecycle.entries_are_numbered),
    Check("An account is opened once", lifecycle.accounts_are_opened_once),
    Check("Limits are shown and obeyed", lifecycle.limits_are_obeyed),
    Check("A history has each entry once", lifecycle.histories_have_each_entry_once),
    Check("Accounts can be closed and reopened", lifecycle.accounts_can_be_closed),
    Check("Unknown accounts are rejected", rejections.unknown_accounts_are_rejected),
    Check("GET requests change no balance", rejections.get_requests_change_no_balance),
    Check("Errors are problem documents (RFC 9457)", rejections.errors_are_problem_documents),
    Check("Media types other than JSON are rejected", rejections.other_media_types_are_rejected),
    Check("Large bodies are rejected", rejections.large_bodies_are_rejected),
    Check("Cross-site requests are rejected", rejections.cross_site_requests_are_rejected),
    Check("Requests without a valid access token are rejected", tokens.invalid_tokens_are_rejected),
    Check("Bodies without an amount are rejected", rejections.bodies_without_an_amount_are_rejected),
    Check("Amounts of zero or less are rejected", partial(rejections.amounts_are_rejected, rejections.ZERO_OR_LESS)),
    Check(
        "Amounts that are not numbers are rejected", partial(rejections.amounts_are_rejected, rejections.NOT_NUMBERS)
    ),
    Check("Fractions of a cent are not rounded", rejections.fractions_of_a_cent_are_not_rounded),
    Check("Balances have a limit", transactions.balances_have_a_limit),
    Check("Infinite and extreme amounts are rejected", partial(rejections.amounts_are_rejected, rejections.EXTREME)),
)
