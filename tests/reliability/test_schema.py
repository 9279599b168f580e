"""The server matches its OpenAPI document, for valid and invalid requests that schemathesis derives from it."""

from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from support.evidence import Record, Rounds
from support.server import running_server

# No schema can describe these: they depend on earlier requests.
DEPENDS_ON_EARLIER_REQUESTS = {"urn:mini-atm:error:key-reused", "urn:mini-atm:error:balance-out-of-range"}


def test_responses_match_the_openapi_document(tmp_path: Path, rounds: Rounds, record: Record) -> None:
    statuses: Counter[int] = Counter()
    with running_server("memory:", tmp_path, "--log-level", "error") as server:
        schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
        cases = st.one_of(
            schema.as_strategy(GenerationMode.POSITIVE),
            schema.as_strategy(GenerationMode.POSITIVE, path_parameters={"account_number": "0"}),  # an existing account
            schema.as_strategy(GenerationMode.NEGATIVE),
        )

        @settings(max_examples=rounds(100, 2000), deadline=None)
        @given(case=cases)
        def response_matches(case: Case[Any]) -> None:
            answer = case.call()
            statuses[answer.status_code] += 1
            is_excused = answer.status_code == 422 and (
                answer.json()["type"] in DEPENDS_ON_EARLIER_REQUESTS
                or {"before", "after"} <= set(case.query or {})  # which exclude each other
            )
            case.validate_response(answer, excluded_checks=[positive_data_acceptance] if is_excused else [])

        response_matches()
    record(
        "The API matches its OpenAPI document",
        "valid and invalid requests that schemathesis derives from it",
        {"cases": statuses.total(), "accepted": statuses[200] + statuses[201]},
        server_errors=sum(count for status, count in statuses.items() if status >= 500),
    )
