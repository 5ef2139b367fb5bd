"""For all tests: what may be skipped, and where real containers come from."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

pytest_plugins = ["tests.runtime.fixtures"]

# With CI=true a skip is a failure, because there nobody reads it. What may be skipped all the same, and why:
ALLOWED_SKIPS = {
    "crun on cgroup v2": "crun sets RLIMIT_MEMLOCK to infinity, which needs CAP_SYS_RESOURCE",
    "crun on cgroup v1": "machines without v1 controllers",
    "runc on cgroup v1": "machines without v1 controllers",
    "containerd 1.6": "Debian 12's knows no CDI devices; Debian 13's and unstable's do (make matrix)",
}
# How long an example takes on the wall clock says how busy the machine is. What must be cheap counts CPU time itself.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_configure():
    # A session that is told to end takes its containers and cgroups with it, as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_runtest_setup(item):
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root (mounts, device nodes, cgroups); run: sudo make test")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(tuple(ALLOWED_SKIPS)):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: a skip counts as a failure with CI=true: {reason}"
    return report
