"""``protocol.py`` depends on internals of uvicorn. This test fails when a release changes them."""

import hashlib
import inspect

import pytest
from uvicorn.protocols.http import flow_control, httptools_impl


@pytest.mark.parametrize(
    ("module", "digest"),
    [
        (httptools_impl, "1d4e1c579df4168433a61a01f10c628b31c1790e72dd9769d2b8633b22214033"),
        (flow_control, "d39d16560df512f3ce907c329c2a0c3f5cd7165fef3b753876eae5739bf2a785"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_uvicorn_code_is_the_code_that_was_read(module: object, digest: str) -> None:
    source = inspect.getsource(module)  # type: ignore[arg-type]
    found = hashlib.sha256(source.encode()).hexdigest()
    assert found == digest, "Read what changed, check server/protocol.py against it, then enter the new digest."
