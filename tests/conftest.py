"""For all tests: what may be skipped, where real containers come from, and what may run side by side."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from oci_gpu_hook.base import syscalls
from tests import compilers

pytest_plugins = ["tests.runtime.fixtures"]

# Else grpc, which tests of the CRI import, starts its threads again in each process that a test forks; with a thread
# beside it, setns(2) refuses that process a mount namespace.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# Simulated hosts have device nodes and programs, and /tmp is often mounted without either, as by Debian 13.
if os.statvfs(tempfile.gettempdir()).f_flag & (os.ST_NODEV | os.ST_NOEXEC):
    os.environ["TMPDIR"] = tempfile.tempdir = "/var/tmp"

# With CI=true a skip is a failure, because there nobody reads it. What may be skipped all the same, and why:
ALLOWED_SKIPS = {
    "crun on cgroup v2": "crun sets RLIMIT_MEMLOCK to infinity, which needs CAP_SYS_RESOURCE",
    "crun on cgroup v1": "machines without v1 controllers",
    "runc on cgroup v1": "machines without v1 controllers",
    "containerd 1.6": "Debian 12's knows no CDI devices; Debian 13's and unstable's do (make matrix)",
    "the file system does not use inode numbers again": "which number ext4 gives is its own choice, beside other tests",
    "the runtime does not start it": "a random bundle that the runtime refuses by itself, so no hook runs",
}
# How long an example takes on the wall clock says how busy the machine is. What must be cheap counts CPU time itself.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# With `-n` files run side by side, except those of one group, which one process runs. Engines and booted systems use
# what a machine has one of, such as cgroups at fixed places; so do Mesos agents, whose cgroups are all below `mesos`,
# and the users of Slurm's jobs, whose leases are in one directory a user.
GROUPS = {
    "engines": (
        "tests/distributions/",
        "tests/engines/",
        "tests/package/test_documented_machines.py",
        "tests/systemd/",
    ),
    "mesos": ("tests/mesos/",),
    "slurm": ("tests/slurm/",),
}

# Groups and files that take more than two minutes, the longest first. They are begun first, whatever the number of
# their tests, so that at the end no process is left alone with one.
LONGEST = (
    "engines",
    "tests/runtime/test_resident_door.py",
    "mesos",
    "tests/runtime/test_resident.py",
    "tests/runtime/test_sharing.py",
    "tests/runtime/test_oci_runtime.py",
    "tests/runtime/test_watch.py",
    "tests/runtime/test_runtime_once.py",
    "tests/runtime/test_arrival.py",
    "slurm",
)

_has_threads = False


class Scheduling(LoadScopeScheduling):
    """Gives a process a whole file, so that what its tests share is made once, or a whole group."""

    def _split_scope(self, nodeid: str) -> str:
        group = next((name for name, rooms in GROUPS.items() if nodeid.startswith(rooms)), "")
        return group or nodeid.partition("::")[0]

    def _assign_work_unit(self, node) -> None:
        first = next((scope for scope in LONGEST if scope in self.workqueue), None)
        if first:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)


def pytest_addoption(parser):
    text = "have the hook's front ask a resident, of each host of tests/runtime, tests/attack and tests/engines"
    parser.addoption("--resident", action="store_true", help=text)


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


def pytest_configure(config):
    # A session that is told to end takes its containers and cgroups with it, as on Ctrl-C. A shell that runs it in the
    # background has it ignore that, and so would commands that tests interrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    global _has_threads
    _has_threads = hasattr(config, "workerinput")
    if not _has_threads:
        compilers.remember(Path(tempfile.mkdtemp(prefix="oci-gpu-tests-compiled-")))


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput") and compilers.KEPT in os.environ:
        compilers.forget()


def pytest_runtest_setup(item):
    if _has_threads:
        # A worker listens in a thread. setns(2) refuses a mount namespace to who shares a root directory with one, and
        # each thread that a test starts shares it again.
        syscalls.unshare(syscalls.CLONE_FS)
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
