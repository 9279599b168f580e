"""Shared by all tests."""

import pytest

pytest.register_assert_rewrite("atm_adapters.testing", "support")
