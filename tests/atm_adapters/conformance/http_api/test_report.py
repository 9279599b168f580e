"""The report shows a server's responses without the characters that control a terminal."""

import pytest
from support.http_api_check import assert_printable, check, failures
from support.reference_api import ReferenceApi, Request, Response, serving

from atm_adapters.conformance.http_api import run
from atm_adapters.conformance.http_api.checks import CHECKS
from atm_adapters.conformance.http_api.report import as_table


async def _control_characters(api: ReferenceApi, request: Request) -> Response:
    if request.method == "GET":
        return await api.respond(request)
    return Response(418, b"\x1b[2J[red]\r\n\xe2\x80\xae\xff" * 1_000, "text/[red]plain")


def test_control_characters_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(run, "CHECKS", CHECKS[:8])
    with serving(ReferenceApi(handler=_control_characters)) as address:
        report, _ = check(address)
    assert "A deposit returns the new balance" in failures(report)
    assert_printable(report)
    text = " ".join(as_table(report).split())
    assert (
        'failed A deposit returns the new balance sent POST /accounts/0/deposit {"amount": 10.25} received 418' in text
    )
    assert "(text/[red]plain) \\x1b[2J[red]\\r\\n\\u202e\\xff" in text
    assert 'expected 200 with JSON such as {"account_number": "0", "balance": 1000.00}' in text
