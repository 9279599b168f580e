"""The API keeps to its own description: requests made from it, right and wrong ones, are answered as it says."""

from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from support.evidence import Often, Record
from support.server import running_server

# What no schema can tell: which keys were used before, and where a balance stands.
REFUSED_FOR_WHAT_CAME_BEFORE = {"urn:mini-atm:error:key-reused", "urn:mini-atm:error:balance-out-of-range"}


def test_requests_made_from_the_schema_are_answered_as_the_schema_says(
    tmp_path: Path, often: Often, record: Record
) -> None:
    statuses: Counter[int] = Counter()
    with running_server("memory:", tmp_path, "--log-level", "error") as server:
        schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
        cases = st.one_of(
            schema.as_strategy(GenerationMode.POSITIVE),
            schema.as_strategy(GenerationMode.POSITIVE, path_parameters={"account_number": "0"}),  # which exists
            schema.as_strategy(GenerationMode.NEGATIVE),
        )

        @settings(max_examples=often(100, 2000), deadline=None)
        @given(case=cases)
        def every_answer_is_as_the_schema_says(case: Case[Any]) -> None:
            answer = case.call()
            statuses[answer.status_code] += 1
            is_no_fault = answer.status_code == 422 and answer.json()["type"] in REFUSED_FOR_WHAT_CAME_BEFORE
            case.validate_response(answer, excluded_checks=[positive_data_acceptance] if is_no_fault else [])

        every_answer_is_as_the_schema_says()
    record(
        "The API keeps to its description",
        "requests that schemathesis makes from it, right and wrong ones",
        {"cases": statuses.total(), "accepted": statuses[200] + statuses[201]},
        server_errors=sum(count for status, count in statuses.items() if status >= 500),
    )
