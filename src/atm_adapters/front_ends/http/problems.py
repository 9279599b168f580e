"""From an exception to a problem document (RFC 9457).

Every refusal of a request is answered here. ``server/protocol.py`` answers bytes that never became a request.
"""

import logging
from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response
from litestar.exceptions import HTTPException

from atm_adapters.wire.errors import NotAllowed, NotAuthenticated
from atm_adapters.wire.exact_json import encode
from atm_adapters.wire.problem_document import PROBLEM_JSON, http_problem_document, problem_document
from atm_core import AtmError, OutcomeUnknown, StoreUnavailable

logger = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 8 * 1024
RETRY_AFTER_SECONDS: Final = 1

_CHALLENGES: Final = {NotAuthenticated: "Bearer", NotAllowed: 'Bearer error="insufficient_scope"'}


class UnsupportedMediaType(HTTPException):
    """The Content-Type is not JSON."""

    status_code = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    detail = "Content-Type must be application/json."


class ClientDisconnected(HTTPException):
    """The client closed the connection before the body was complete. The answer is for the log only."""

    status_code = HTTPStatus.BAD_REQUEST
    detail = "The connection was closed before the body was complete."


class MetricsNotInstalled(HTTPException):
    """``/metrics`` needs a package that is not installed."""

    status_code = HTTPStatus.NOT_FOUND
    detail = "Metrics need the package prometheus-client; install it with: pip install prometheus-client"


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Log an error, and answer it with a problem document."""
    headers: dict[str, str] = {}
    if isinstance(error, AtmError):
        members = problem_document(error)
        if members["status"] == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        elif isinstance(error, NotAuthenticated | NotAllowed):  # RFC 6750, section 3
            headers["WWW-Authenticate"] = _CHALLENGES[type(error)]
        if isinstance(error, StoreUnavailable | OutcomeUnknown):
            logger.error("%s", error)
        else:
            _log_refusal(request, error.code)
    elif isinstance(error, HTTPException) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        headers |= error.headers or {}
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["allow"] = _allowed_methods(error)
        members = http_problem_document(error.status_code, _http_detail(error))
        _log_refusal(request, HTTPStatus(error.status_code).phrase)
    else:
        logger.error("unexpected error", exc_info=error)
        members = http_problem_document(HTTPStatus.INTERNAL_SERVER_ERROR, "The server made an error. It was logged.")
    return Response(encode(members), status_code=members["status"], media_type=PROBLEM_JSON, headers=headers)


def store_refused(error: NotAuthenticated | NotAllowed) -> StoreUnavailable:
    """Return the error for clients if the store is another server, which refused the access token of this one."""
    return StoreUnavailable("of this server", f"it refused the ATM_TOKEN of this server. {error}".rstrip("."))


def problem_code(error: Exception) -> str:
    """Return a short, stable name for an error: its code, or its HTTP status."""
    if isinstance(error, AtmError):
        return error.code
    return str(int(error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR))


def _http_detail(error: HTTPException) -> str:
    """Return the sentence for an error of HTTP itself, such as an unknown path or a wrong method."""
    match error.status_code:
        case HTTPStatus.NOT_FOUND if not isinstance(error, MetricsNotInstalled):
            return "There is nothing at this path. /docs lists what there is."
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return f"The methods allowed here are {_allowed_methods(error)}."
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return f"The body may have at most {MAX_BODY_BYTES:,} bytes."
        case _:
            return error.detail


def _allowed_methods(error: HTTPException) -> str:
    return (error.headers or {})["allow"].replace("GET", "GET, HEAD")  # the boundary handles HEAD as GET


def _log_refusal(request: Request[Any, Any, Any], reason: str) -> None:
    """Log the account number as given, and nothing else that the client sent."""
    account_number = request.path_params.get("account_number")
    if account_number is None:
        logger.warning("refused: %s", reason)
    else:
        logger.warning("refused for account %.66a: %s", account_number, reason)
