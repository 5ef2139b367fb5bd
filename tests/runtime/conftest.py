"""Tests here start real containers; after each, the host must be as it was."""

import pytest

from tests.runtime.vendors import Vendors


@pytest.fixture(autouse=True)
def leave_no_trace(request):
    if "runtime" in request.fixturenames:
        request.getfixturevalue("host_unchanged")


@pytest.fixture
def runc_v2(machine):
    """The runtime with which everything of cgroup v2 can be tried; where it does not work the test fails."""
    assert "runc-v2" in machine.runtimes, machine.unavailable
    return machine.runtimes["runc-v2"]


@pytest.fixture
def vendors(front, directory):
    """Three vendors' specifications, in the directory that the configuration names."""
    found = Vendors(directory / "vendors")
    found.directory.mkdir(mode=0o755)
    found.make()
    config = front.host.path("/etc/oci-gpu-hook/config.toml")
    config.write_text(config.read_text() + f'\n[cdi]\nspec-dirs = ["{found.specs}"]\n')
    return found
