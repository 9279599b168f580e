"""An assertion about problem documents."""

from typing import Any

import httpx


def assert_problem(answer: httpx.Response, status: int, code: str | None = None) -> None:
    """Require a problem document (RFC 9457)."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["type"] == (f"urn:mini-atm:error:{code}" if code else "about:blank")
    assert problem["title"]
    assert problem["detail"]
