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
from typing import Any

import pytest

from oci_gpu_hook.apply.device_access import bpf, cgroup, device_program, runtime_program
from oci_gpu_hook.base.errors import ApplyError
from tests.runtime import bundle as bundles
from tests.runtime import rootfs as images
from tests.runtime.device_cgroups import FUSE, GRANTED, NODES, NOTHING, attach, code_of, device_rule, inside, like_runc


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


RULES: dict[str, tuple[dict[str, Any], ...]] = {
    "none": (),
    "nothing": (bundles.NO_DEVICES,),
    "everything": ({"allow": True, "access": "rwm"},),
    "fuse": (bundles.NO_DEVICES, FUSE),
    "read only": (bundles.NO_DEVICES, {"allow": True, "type": "c", "major": 195, "minor": 1, "access": "r"}),
    "blocks": (bundles.NO_DEVICES, {"allow": True, "type": "b", "major": 8, "access": "rw"}),
    "twice": (bundles.NO_DEVICES, FUSE | {"access": "r"}, FUSE | {"access": "w"}),
    "taken back": (bundles.NO_DEVICES, FUSE, FUSE | {"allow": False, "access": "w"}),
    "all but one": ({"allow": True, "access": "rwm"}, FUSE | {"allow": False}),
    "as docker": (
        bundles.NO_DEVICES,
        *({"allow": True, "type": "c", "major": 1, "minor": minor, "access": "rwm"} for minor in (5, 3, 9, 8)),
        {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
        {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
    ),
}


@pytest.mark.parametrize("rules", RULES)
def test_the_runtimes_program_is_known_beforehand(runtime, sleeper, rules):
    """So that it is recognised by its tag where it cannot be read."""

    def scenario():
        found = cgroup.find(container.pid)
        if found.version == 2:
            expected = list(runtime_program.candidates([device_rule(rule) for rule in RULES[rules]]))
            attached = code_of(found)
            assert len(attached) == 1 or (not RULES[rules] and runtime.name.startswith("crun"))
            assert all(code in expected for code in attached)

    with sleeper(runtime, devices=RULES[rules]) as container:
        inside(runtime.host, scenario)


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
            with pytest.raises(ApplyError, match=f"195:0.*'{outer}' above.*does not allow"):
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
        attach(directory, like_runc(), bpf.ALLOW_MULTI)

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
