"""The table of error responses is complete and consistent."""

from support.errors import project_errors

from atm_adapters.wire.error_responses import ERROR_RESPONSES, ErrorResponse, response_for
from atm_adapters.wire.errors import NotAllowed, NotAuthenticated, UnknownRefusal
from atm_core import AccountNotFound, AtmError, OutcomeUnknown


class AccountFrozen(AccountNotFound):
    code = "test-account-frozen"


class LimitReached(AtmError):
    code = "test-limit-reached"


def test_every_error_has_a_row() -> None:
    assert set(ERROR_RESPONSES) == project_errors() - {UnknownRefusal} | {AtmError}


def test_every_row_is_consistent() -> None:
    for error, response in ERROR_RESPONSES.items():
        assert response.exit_code in (2, 3, 4, 5, 6), error
        assert 400 <= response.status <= 503, error
        assert response.title
        assert (response.exit_code in (4, 5)) == (response.status == 503), error


def test_only_an_unknown_outcome_has_its_own_exit_code() -> None:
    assert [error for error, response in ERROR_RESPONSES.items() if response.exit_code == 5] == [OutcomeUnknown]


def test_only_refused_tokens_have_exit_code_6() -> None:
    refused = {error: response.status for error, response in ERROR_RESPONSES.items() if response.exit_code == 6}
    assert refused == {NotAuthenticated: 401, NotAllowed: 403}


def test_error_without_a_row_has_the_response_of_its_base_class() -> None:
    assert response_for(AccountFrozen("0")) == response_for(AccountFrozen) == ERROR_RESPONSES[AccountNotFound]
    assert response_for(LimitReached()) == response_for(UnknownRefusal("No.")) == ErrorResponse("Refused", 422, 3)
