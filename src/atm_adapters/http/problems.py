"""From an exception to a problem document (RFC 9457).

Every refusal of a request goes through here; what never became a request, ``protocol.py`` answers.
"""

import logging
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.plugins.problem_details import ProblemDetailsException

from atm_adapters.error_catalogue import report_for
from atm_adapters.exact_json import InvalidBody
from atm_core import AtmError, InvalidAmount, OutcomeUnknown, StoreUnavailable

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
RETRY_AFTER_SECONDS = 1
MONEY_AT, OPENING_MONEY_AT = "#/amount", "#/balance"  # JSON pointers to the sum of money in a body


class UnsupportedMediaType(HTTPException):
    """The body is said to be something other than JSON."""

    status_code = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    detail = "Content-Type must be application/json."


class ClientLeft(HTTPException):
    """The connection was closed in the middle of the body, so nobody reads this; it is for the log."""

    status_code = HTTPStatus.BAD_REQUEST
    detail = "The connection was closed before the body was complete."


class MetricsNotInstalled(HTTPException):
    """``/metrics`` needs an extra."""

    status_code = HTTPStatus.NOT_FOUND
    detail = "There are no metrics without an extra; install it with: pip install 'mini-atm[metrics]'"


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Log an error, and answer it with a problem document."""
    if isinstance(error, AtmError):
        problem = _core_problem(error, request.route_handler.opt.get("money_at", MONEY_AT))
        if isinstance(error, StoreUnavailable | OutcomeUnknown):
            logger.error("%s", error)
        else:
            _log_refusal(request, error.code)
    elif isinstance(error, HTTPException) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        problem = _http_problem(error)
        _log_refusal(request, HTTPStatus(error.status_code).phrase)
    else:
        logger.error("unexpected error", exc_info=error)
        problem = ProblemDetailsException(
            detail="Something went wrong here that should not have. It was logged.",
            status_code=HTTPStatus.INTERNAL_SERVER_ERROR,
            title=HTTPStatus.INTERNAL_SERVER_ERROR.phrase,
            type_="about:blank",
        )
    return problem.to_response(request)


def problem_code(error: Exception) -> str:
    """A short, stable name for what went wrong: an error's code, or an HTTP status."""
    if isinstance(error, AtmError):
        return error.code
    return str(int(error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR))


def problem_members(error: AtmError, money_at: str = MONEY_AT) -> dict[str, Any]:
    """The members of the problem document for an error of the core or of an adapter.

    :param money_at: the JSON pointer to the sum of money in the request's body.
    """
    report = report_for(error)
    members: dict[str, Any] = {
        "type": f"urn:mini-atm:error:{error.code}",
        "title": report.title,
        "status": report.status,
        "detail": _detail(error),
    }
    if isinstance(error, InvalidAmount | InvalidBody):
        pointer = error.pointer if isinstance(error, InvalidBody) else money_at
        members["errors"] = [{"pointer": pointer, "detail": str(error)}]
    return members


def _detail(error: AtmError) -> str:
    """What to tell a client. Where the store is and what ails it is for the operator's log."""
    if isinstance(error, StoreUnavailable):
        return "The store is unavailable, and nothing was changed. Try again shortly."
    if isinstance(error, OutcomeUnknown):
        return error.advice
    return str(error)


def _core_problem(error: AtmError, money_at: str) -> ProblemDetailsException:
    members = problem_members(error, money_at)
    unavailable = members["status"] == HTTPStatus.SERVICE_UNAVAILABLE
    return ProblemDetailsException(
        type_=members.pop("type"),
        title=members.pop("title"),
        status_code=members.pop("status"),
        detail=members.pop("detail"),
        extra=members,
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)} if unavailable else None,
    )


def _http_problem(error: HTTPException) -> ProblemDetailsException:
    """What HTTP itself refuses (an unknown path, a wrong method, ...), whose type is the status alone."""
    headers = error.headers or {}
    match error.status_code:
        case HTTPStatus.NOT_FOUND if not isinstance(error, MetricsNotInstalled):
            detail = "There is nothing at this path; /docs lists what there is."
        case HTTPStatus.METHOD_NOT_ALLOWED:
            detail = f"The methods allowed here are {headers['allow']}."
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            detail = f"The body may have {MAX_BODY_BYTES:,} bytes at the most."
        case _:
            detail = error.detail
    return ProblemDetailsException(
        detail=detail,
        status_code=error.status_code,
        title=HTTPStatus(error.status_code).phrase,
        type_="about:blank",
        headers=headers,
    )


def _log_refusal(request: Request[Any, Any, Any], why: str) -> None:
    """Log the account number as it was given, and nothing else that the client sent."""
    account_number = request.path_params.get("account_number")
    if account_number is None:
        logger.warning("refused: %s", why)
    else:
        logger.warning("refused for account %.66a: %s", account_number, why)
