"""Device access of real containers: what they may open before a grant, with it, and after it is undone.

A node of major 195 has no driver on a machine without a GPU: opening it fails with ENXIO where the cgroup lets it
through, with EPERM where it does not.
"""

from __future__ import annotations

import os
import stat
import subprocess
import time
from contextlib import contextmanager

import pytest

from oci_gpu_hook.apply.device_access import bpf, cgroup, device_program
from oci_gpu_hook.base.errors import ApplyError
from oci_gpu_hook.oci.container import DeviceRule
from tests.runtime import bundle as bundles
from tests.runtime import rootfs as images
from tests.runtime.device_cgroups import GRANTED, NODES, NOTHING, attach, code_of, inside

FUSE = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}


@pytest.fixture
def sleeper(machine, directory):
    """Start a container that sleeps, with the nodes in its rootfs; the keyword `devices` are its device rules."""

    @contextmanager
    def start(runtime, **options):
        root = images.copy(machine.image("musl"), directory / "rootfs")
        for path, (major, minor) in NODES.items():
            os.mknod(f"{root}{path}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
            os.chmod(f"{root}{path}", 0o666)
        with runtime.started(bundles.make(directory, ["/bin/sleep", "600"], **options)) as container:
            yield container

    return start


def opened(container) -> dict[str, str]:
    answers = container.exec("/probe", *(f"open={path}" for path in NODES)).seen()
    return {name.removeprefix("open="): value for name, value in answers.items()}


REFUSED = dict.fromkeys(NODES, "EPERM") | {"/null": "opened"}
PERMITTED = dict.fromkeys(NODES, "ENXIO") | {"/null": "opened", "/neighbour": "EPERM"}


def test_the_granted_nodes_and_no_others_open_until_the_grant_is_undone(runtime, sleeper):
    def scenario():
        found = cgroup.find(container.pid, container.bundle.config["linux"]["cgroupsPath"])
        assert found.version == (2 if runtime.host.layout == "v2" else 1)
        assert opened(container) == REFUSED
        assert cgroup.allows(found, 195, 0) is False

        grant = cgroup.allow(found, GRANTED, NOTHING)
        assert opened(container) == PERMITTED
        assert cgroup.allows(found, 195, 0) is True
        assert cgroup.allows(found, 195, 1) is False
        assert container.exec("/probe", "mknod=/second:195:1", "open=/second").seen()["open=/second"] == "EPERM"

        grant.undo()
        assert opened(container) == REFUSED
        assert cgroup.allows(found, 195, 0) is False

    with sleeper(runtime) as container:
        inside(runtime.host, scenario)


def test_granting_ten_times_leaves_what_granting_once_does(runtime, sleeper):
    def scenario():
        found = cgroup.find(container.pid)
        cgroup.allow(found, GRANTED[:1], NOTHING).close()
        once = state(found)
        for _ in range(10):
            grant = cgroup.allow(found, GRANTED[:1], NOTHING)
            assert grant.changes == []
            grant.undo()
        assert state(found) == once

        cgroup.allow(found, GRANTED, NOTHING).close()
        all_granted = state(found)
        for _ in range(10):
            cgroup.allow(found, GRANTED[::-1], NOTHING).close()
        assert state(found) == all_granted
        assert opened(container) == PERMITTED

    def state(found):
        if found.version == 2:
            return code_of(found)
        return os.read(os.open("devices.list", os.O_RDONLY, dir_fd=found.levels[-1]), 65536)

    with sleeper(runtime) as container:
        inside(runtime.host, scenario)


def test_undoing_a_later_grant_keeps_the_earlier_one(runtime, sleeper):
    def scenario():
        found = cgroup.find(container.pid)
        cgroup.allow(found, [(195, 0)], NOTHING).close()
        cgroup.allow(found, GRANTED, NOTHING).undo()
        seen = opened(container)
        assert (seen["/granted"], seen["/control"]) == ("ENXIO", "EPERM")

    with sleeper(runtime) as container:
        inside(runtime.host, scenario)


def test_the_containers_own_rules_stay_as_they_are(runtime, sleeper):
    rules = (bundles.NO_DEVICES, FUSE, {"allow": True, "type": "c", "major": 195, "minor": 1, "access": "r"})

    def scenario():
        found = cgroup.find(container.pid)
        assert [cgroup.allows(found, 10, 229), cgroup.allows(found, 195, 1)] == [True, False]
        grant = cgroup.allow(found, GRANTED, NOTHING)
        assert [cgroup.allows(found, 10, 229), cgroup.allows(found, 195, 1)] == [True, False]
        assert opened(container) == PERMITTED
        assert container.exec("/probe", "read=/neighbour").seen()["read=/neighbour"] == "ENXIO"
        grant.undo()
        assert opened(container) == REFUSED

    with sleeper(runtime, devices=rules) as container:
        inside(runtime.host, scenario)


def test_undo_gives_back_a_read_only_rule_for_a_granted_node(runtime, sleeper):
    rules = (bundles.NO_DEVICES, {"allow": True, "type": "c", "major": 195, "minor": 0, "access": "r"})

    def scenario():
        found = cgroup.find(container.pid)
        grant = cgroup.allow(found, [(195, 0)], NOTHING)
        assert opened(container)["/granted"] == "ENXIO"
        grant.undo()
        seen = container.exec("/probe", "open=/granted", "read=/granted").seen()
        assert seen == {"open=/granted": "EPERM", "read=/granted": "ENXIO"}

    with sleeper(runtime, devices=rules) as container:
        inside(runtime.host, scenario)


def test_a_container_that_may_open_everything_is_left_as_it_is(runtime, sleeper):
    def scenario():
        found = cgroup.find(container.pid)
        grant = cgroup.allow(found, GRANTED, ())
        assert grant.changes == []
        assert set(opened(container).values()) == {"ENXIO", "opened"}

    with sleeper(runtime, devices=({"allow": True, "access": "rwm"},)) as container:
        inside(runtime.host, scenario)


@pytest.mark.parametrize("unreadable", [b"", bytes(800)], ids=["nothing", "zeros"])
def test_a_program_that_cannot_be_read_back_is_made_anew(runc_v2, sleeper, monkeypatch, unreadable):
    rules = (
        *NOTHING,
        DeviceRule(allow=True, type="c", major=10, minor=229, access="rwm"),
    )

    def scenario():
        found = cgroup.find(container.pid)
        monkeypatch.setattr(bpf, "instructions", lambda _program: unreadable)
        assert cgroup.allows(found, 195, 0) is None
        grant = cgroup.allow(found, GRANTED, rules)
        assert opened(container) == PERMITTED
        for _ in range(5):
            cgroup.allow(found, GRANTED, rules).close()
        assert opened(container) == PERMITTED
        monkeypatch.undo()
        (code,) = code_of(found)
        assert code == device_program.from_rules(rules, GRANTED)
        assert [cgroup.allows(found, *node) for node in ((10, 229), (10, 200), (8, 0))] == [True, True, False]
        assert grant.changes

    with sleeper(runc_v2, devices=(bundles.NO_DEVICES, FUSE)) as container:
        inside(runc_v2.host, scenario)


def test_a_hardened_jit_does_not_keep_the_container_from_its_nodes(runc_v2, sleeper):
    """With net.core.bpf_jit_harden=2 programs come back with blinded constants, or as zeros under kptr_restrict=2."""

    def scenario():
        found = cgroup.find(container.pid)
        assert device_program.is_hidden(code_of(found)[0])
        assert opened(container) == REFUSED
        cgroup.allow(found, GRANTED, NOTHING).close()
        assert opened(container) == PERMITTED
        assert cgroup.allows(found, 195, 1) in (False, None)
        cgroup.allow(found, GRANTED, NOTHING).close()
        assert opened(container) == PERMITTED

    with sysctl("net/core/bpf_jit_harden", "2"), sleeper(runc_v2) as container:
        inside(runc_v2.host, scenario)
        with sysctl("kernel/kptr_restrict", "2"):
            inside(runc_v2.host, hidden_altogether(container))


def hidden_altogether(container):
    def scenario():
        found = cgroup.find(container.pid)
        assert not any(code_of(found)[0])
        assert cgroup.allows(found, 195, 0) is None
        cgroup.allow(found, GRANTED, NOTHING).close()
        assert opened(container) == PERMITTED

    return scenario


@contextmanager
def sysctl(name: str, value: str):
    path = f"/proc/sys/{name}"
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {name}")
    with open(path) as file:
        before = file.read()
    with open(path, "w") as file:
        file.write(value)
    try:
        yield
    finally:
        with open(path, "w") as file:
            file.write(before)


def test_an_ancestor_that_refuses_is_named_and_nothing_is_changed(runtime, machine):
    """As with a container in a container: the outer one has not got the GPU that the inner one is to have."""

    def scenario():
        root = "/sys/fs/cgroup" if runtime.host.layout == "v2" else "/sys/fs/cgroup/devices"
        outer = f"/outer-{os.getpid()}"
        child = subprocess.Popen(["sleep", "60"])
        try:
            os.mkdir(root + outer)
            refuse(f"{root}{outer}")
            os.mkdir(f"{root}{outer}/inner")
            if runtime.host.layout == "v2":
                refuse(f"{root}{outer}/inner")
            with open(f"{root}{outer}/inner/cgroup.procs", "w") as file:
                file.write(str(child.pid))
            found = cgroup.find(child.pid)
            with pytest.raises(ApplyError, match=f"195:0.*'{outer}' above.*refuses"):
                cgroup.allow(found, GRANTED, NOTHING)
            assert cgroup.allows(found, 195, 0) is False
            if found.version == 2:
                assert device_program.split(code_of(found)[0])[0] == ()
        finally:
            child.kill()
            child.wait()
            os.rmdir(f"{root}{outer}/inner")
            os.rmdir(root + outer)

    def refuse(directory):
        if runtime.host.layout != "v2":
            with open(f"{directory}/devices.deny", "w") as file:
                file.write("a")
            return
        attach(directory, device_program.from_rules(NOTHING, ()), bpf.ALLOW_MULTI)

    inside(runtime.host, scenario)


def test_nothing_stays_open_after_a_grant(runtime, sleeper):
    def scenario():
        pid = container.pid
        before = set(os.listdir("/proc/self/fd"))
        for end in ("undo", "close"):
            found = cgroup.find(pid)
            getattr(cgroup.allow(found, GRANTED, NOTHING), end)()
            found.close()
        assert set(os.listdir("/proc/self/fd")) == before

    with sleeper(runtime) as container:
        inside(runtime.host, scenario)


def test_a_grant_takes_about_a_millisecond(runtime, sleeper):
    """Ten times the usual figure (0.2 to 0.5 ms), so that it fails for a blunder and not for a busy machine."""

    def scenario():
        best = 1.0
        pid = container.pid
        for _ in range(20):
            start = time.perf_counter()
            found = cgroup.find(pid)
            grant = cgroup.allow(found, GRANTED, NOTHING)
            best = min(best, time.perf_counter() - start)
            grant.undo()
            found.close()
        assert best < 0.005

    with sleeper(runtime) as container:
        inside(runtime.host, scenario)
