"""The server matches its OpenAPI document, for valid and invalid requests that schemathesis derives from it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)
from support.evidence import Record, Rounds
from support.server import running_server
from support.tokens import add_token, bearer

from atm_adapters.front_ends.http.tokens import Verb

# No schema can describe these: they depend on earlier requests.
DEPENDS_ON_EARLIER_REQUESTS = {"urn:mini-atm:error:key-reused", "urn:mini-atm:error:balance-out-of-range"}


@pytest.mark.parametrize("access", ["without tokens", "with a token", "with a wrong token"])
def test_responses_match_the_openapi_document(tmp_path: Path, rounds: Rounds, record: Record, access: str) -> None:
    statuses: Counter[int] = Counter()
    headers: dict[str, str] = {}
    options = ["--log-level", "error"]
    if access != "without tokens":
        file = tmp_path / "tokens.toml"
        headers = bearer(add_token(file, "all", list(Verb)))
        options += ["--tokens", str(file)]
        if access == "with a wrong token":
            headers = bearer("atm_00000000_" + "0" * 64)
    with running_server("memory:", tmp_path, *options) as server:
        schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
        cases = st.one_of(
            schema.as_strategy(GenerationMode.POSITIVE),
            schema.as_strategy(GenerationMode.POSITIVE, path_parameters={"account_number": "0"}),  # an existing account
            schema.as_strategy(GenerationMode.NEGATIVE),
        )

        @settings(max_examples=rounds(100, 2000), deadline=None)
        @given(case=cases)
        def response_matches(case: Case[Any]) -> None:
            answer = case.call(headers=headers)
            statuses[answer.status_code] += 1
            is_excused = answer.status_code == 422 and (
                answer.json()["type"] in DEPENDS_ON_EARLIER_REQUESTS
                or {"before", "after"} <= set(case.query or {})  # which exclude each other
            )
            excused: list[Any] = [positive_data_acceptance] if is_excused else []
            if access == "with a wrong token":
                assert answer.status_code in (401, 200), answer.text  # 200: the health checks
                excused = [positive_data_acceptance, negative_data_rejection, unsupported_method]
            elif headers:
                # The first sends requests without a token, as tests of each route do. For the second, a request that
                # lacked its Authorization counts as invalid, but this test sends it with a token.
                excused += [ignored_auth, negative_data_rejection]
            case.validate_response(answer, headers=headers, excluded_checks=excused)

        response_matches()
    record(
        "The API matches its OpenAPI document",
        f"valid and invalid requests that schemathesis derives from it, {access}",
        {"cases": statuses.total(), "accepted": statuses[200] + statuses[201]},
        server_errors=sum(count for status, count in statuses.items() if status >= 500),
    )
