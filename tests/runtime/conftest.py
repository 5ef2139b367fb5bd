"""Tests here start real containers; after each, the host must be as it was."""

import pytest


@pytest.fixture(autouse=True)
def leave_no_trace(request):
    if "runtime" in request.fixturenames:
        request.getfixturevalue("host_unchanged")


@pytest.fixture
def runc_v2(machine):
    """The runtime with which everything of cgroup v2 can be tried; where it does not work the test fails."""
    assert "runc-v2" in machine.runtimes, machine.unavailable
    return machine.runtimes["runc-v2"]
