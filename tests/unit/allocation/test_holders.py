"""Who holds a lease: a process, by its number, its start time and its boot, also seen from a container."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from oci_gpu_hook.allocation import release
from oci_gpu_hook.allocation.holders import INITIAL_PID_NAMESPACE, Holder, Processes, same
from tests import first_pid_namespace
from tests.paths import ROOT
from tests.unit.allocation.leasing import edit, grant, holders, recorded, request


def test_start_times_are_those_of_psutil(started):
    container = started("a (with) blanks")
    ticks = Processes().start_time(container.pid)
    boot = psutil.boot_time()
    assert abs(boot + ticks / os.sysconf("SC_CLK_TCK") - psutil.Process(container.pid).create_time()) < 0.1
    assert Processes().start_time(1 << 22) == 0


def test_a_process_name_cannot_forge_a_start_time(tmp_path):
    target = tmp_path / "x) Z 1 2 3 4 (5"
    target.symlink_to("/bin/sleep")
    with subprocess.Popen([str(target), "60"]) as process:
        assert Processes().start_time(process.pid) > 0
        expected = psutil.Process(process.pid).create_time() - psutil.boot_time()
        assert abs(Processes().start_time(process.pid) / os.sysconf("SC_CLK_TCK") - expected) < 0.1
        process.kill()


def test_one_process_seen_from_two_pid_namespaces_is_one():
    inner = Holder(pid=1, start_time=5, boot_id="b", pid_namespace=77)
    outer = Holder(pid=4711, start_time=5, boot_id="b", pid_namespace=INITIAL_PID_NAMESPACE)
    assert same(inner, outer)
    assert not same(inner, Holder(pid=2, start_time=5, boot_id="b", pid_namespace=77))
    assert not same(inner, Holder(pid=4711, start_time=6, boot_id="b", pid_namespace=INITIAL_PID_NAMESPACE))


IN_A_NAMESPACE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from oci_gpu_hook.base.config.model import Config
from tests.unit.allocation.leasing import bundle, grant, holders, request
config = Config(state_dir=sys.argv[2])
print(grant(request(count=1, exclusive=True), bundle("inside", os.getpid()), config), flush=True)
print(sorted(holders(config)), flush=True)
sys.stdin.read()
"""


@pytest.mark.root
@first_pid_namespace.needed
def test_a_lease_made_inside_a_pid_namespace_is_judged_from_the_host(config, started):
    """Mesos runs its hooks inside the container: pid 1 of the record is not the host's pid 1."""
    grant(request("0", exclusive=True), started("outside"), config)
    command = ["/usr/bin/unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable]
    command += ["-c", IN_A_NAMESPACE, str(ROOT), config.state_dir]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as inside:
        assert inside.stdin
        assert inside.stdout
        assert inside.stdout.readline() == "[1]\n"
        assert inside.stdout.readline() == "['inside', 'outside']\n", "from inside, the host's processes are unknown"
        assert [lease["pid"] for lease in recorded(config)["leases"]] == [started.processes["outside"].pid, 1]
        assert set(holders(config)) == {"inside", "outside"}
        inside.stdin.close()
        inside.wait()
    assert set(holders(config)) == {"outside"}
    assert [lease.container for lease in release.reconcile(config)] == ["inside"]


def test_a_zombie_holds_nothing(config, started):
    grant(request(count=4, exclusive=True), started("a"), config)
    started.processes["a"].kill()
    os.waitid(os.P_PID, started.processes["a"].pid, os.WEXITED | os.WNOWAIT)
    assert grant(request(count=1), started("b"), config) == [0]


def test_a_process_whose_first_thread_ended_still_holds(config, tmp_path):
    """It is a zombie to ps, and its other threads compute on."""
    number = {"x86_64": 60, "aarch64": 93}[os.uname().machine]  # exit(2), which ends the calling thread alone
    code = "import threading, time, ctypes, sys; threading.Thread(target=time.sleep, args=(600,)).start(); "
    code += "print(flush=True); ctypes.CDLL(None).syscall(int(sys.argv[1]), 0)"
    with subprocess.Popen([sys.executable, "-c", code, str(number)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            deadline = time.monotonic() + 5
            while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
                time.sleep(0.01)
            assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
            assert Processes().holder(process.pid) is not None
        finally:
            process.kill()


def test_a_reused_pid_is_no_holder(config, started):
    a = started("a")
    grant(request(count=4, exclusive=True), a, config)
    edit(config, lambda lease: lease.update(startTime=lease["startTime"] - 1))
    assert grant(request(count=1), started("b"), config) == [0]


def test_another_boot_voids_every_lease(config, started):
    grant(request(count=4, exclusive=True), started("a"), config)
    edit(config, lambda lease: lease.update(bootId="00000000-0000-0000-0000-000000000000"))
    assert grant(request(count=1), started("b"), config) == [0]
