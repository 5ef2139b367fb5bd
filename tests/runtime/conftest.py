"""Tests here start real containers; after each, the host must be as it was."""

import pytest


@pytest.fixture(autouse=True)
def leave_no_trace(request):
    if "runtime" in request.fixturenames:
        request.getfixturevalue("host_unchanged")
