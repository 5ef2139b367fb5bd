"""Device programs that the kernel does not show (net.core.bpf_jit_harden=2): none is lost, and none permits more after.

What a container may do is asked from inside, of the device cgroup: ENXIO or an open node where it lets through, EPERM
where it refuses.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from oci_gpu_hook.apply.device_access import bpf, cgroup, device_program
from oci_gpu_hook.base.errors import ApplyError
from oci_gpu_hook.oci.container import DeviceRule
from tests.runtime import bundle as bundles
from tests.runtime import rootfs as images
from tests.runtime.device_cgroups import (
    FUSE,
    GRANTED,
    NOTHING,
    attach,
    code_of,
    device_rule,
    inside,
    like_runc,
    process_in,
    sysctl,
)

# Of each: type, major, minor. The first two are granted.
ASKED = {
    "gpu": ("c", 195, 0),
    "gpu-control": ("c", 195, 255),
    "gpu-neighbour": ("c", 195, 1),
    "null": ("c", 1, 3),
    "console": ("c", 5, 1),
    "pts": ("c", 136, 77),
    "tun": ("c", 10, 200),
    "fuse": ("c", 10, 229),
    "loop-control": ("c", 10, 237),
    "kmsg": ("c", 1, 11),
    "loop": ("b", 7, 0),
    "disk": ("b", 8, 0),
}
HIDING = {
    "blinded": (("net/core/bpf_jit_harden", "2"), ("kernel/kptr_restrict", "0")),
    "hidden": (("net/core/bpf_jit_harden", "2"), ("kernel/kptr_restrict", "2")),
}
FUSE_RULE = DeviceRule(allow=True, type="c", major=10, minor=229, access="rwm")


@pytest.fixture(params=HIDING)
def hidden(request, machine):
    """A kernel that hides programs, or blinds them so that they cannot be loaded as they are read."""
    with ExitStack() as stack:
        for name, value in HIDING[request.param]:
            stack.enter_context(sysctl(name, value))
        yield request.param


@pytest.fixture(params=["runc-v2", "crun-v2"])
def unified(request, machine):
    if request.param == "crun-v2" and request.param in machine.unavailable:
        pytest.skip(f"crun on cgroup v2: {machine.unavailable[request.param]}")
    return machine.runtimes[request.param]


def node_in(root, name: str) -> None:
    kind, major, minor = ASKED[name]
    os.mknod(f"{root}/{name}", {"c": stat.S_IFCHR, "b": stat.S_IFBLK}[kind] | 0o666, os.makedev(major, minor))
    os.chmod(f"{root}/{name}", 0o666)


def may(container) -> dict[str, str]:
    """Return what the device cgroup says to opening each node, reading it, and making a character device like it."""
    numbers = {name: (major, minor) for name, (kind, major, minor) in ASKED.items() if kind == "c"}
    asked = [f"open=/{name}" for name in ASKED]
    asked += [f"read=/{name}" for name in ASKED if name != "console"]  # which crun permits, and which waits for a key
    made = [f"mknod=/made-{name}:{major}:{minor}" for name, (major, minor) in numbers.items()]
    answers = container.exec("/probe", *asked, *made).seen()
    for name in numbers:
        container.path(f"/made-{name}").unlink(missing_ok=True)
    return answers


@pytest.mark.parametrize("devices", [(bundles.NO_DEVICES,), (bundles.NO_DEVICES, FUSE)], ids=["", "fuse"])
def test_only_the_granted_nodes_are_permitted_more_than_before(unified, machine, directory, hidden, devices, tally):
    rules = tuple(device_rule(rule) for rule in devices)
    root = images.copy(machine.image("musl"), directory / "rootfs")
    for name in ASKED:
        node_in(root, name)

    def scenario():
        found = cgroup.find(container.pid)
        (shown,) = code_of(found)
        assert device_program.is_hidden(shown)
        assert any(shown) == (hidden == "blinded")
        before = may(container)
        assert before["open=/gpu"] == "EPERM"
        grant = cgroup.allow(found, GRANTED, rules)
        granted = {f"{how}=/{name}": "ENXIO" for how in ("open", "read") for name in ("gpu", "gpu-control")}
        assert may(container) == before | granted
        for _ in range(3):  # what is ours by now is known again
            cgroup.allow(found, GRANTED, rules).close()
        assert may(container) == before | granted
        assert len(bpf.attached(found.levels[-1])[1]) == 1
        grant.undo()
        assert may(container) == before

    with unified.started(bundles.make(directory, ["/bin/sleep", "600"], devices=devices)) as container:
        inside(unified.host, scenario)
    tally.count()


def refused(found, rules) -> None:
    before = bpf.attached(found.levels[-1])
    with pytest.raises(ApplyError, match=r"does not show it.*kptr_restrict"):
        cgroup.allow(found, GRANTED, rules)
    assert bpf.attached(found.levels[-1]) == before


@pytest.mark.parametrize("order", ["site's first", "runtime's first"])
def test_a_second_program_is_not_lost(unified, hidden, order, tally):
    """A site has one of its own on the cgroup, beside the runtime's: it permits less, no fuse."""

    def scenario():
        with process_in(f"hidden-two-{os.getpid()}") as (pid, made):
            programs = [like_runc(), like_runc(FUSE_RULE)]
            for code in programs if order == "site's first" else reversed(programs):
                attach(made[-1], code, bpf.ALLOW_MULTI)
            found = cgroup.find(pid)
            rules = (*NOTHING, FUSE_RULE)
            if hidden == "hidden":
                refused(found, rules)
                return
            assert len(cgroup.allow(found, GRANTED, rules).changes) == 2
            asked = ((195, 0), (195, 1), (10, 229))
            assert [cgroup.allows(found, *node) for node in asked] == [True, False, False]

    inside(unified.host, scenario)
    tally.count()


OTHERS = {
    "less than config.json says": like_runc,
    "calls a function": lambda: (
        device_program.instruction(0x85, immediate=15)
        + device_program.instruction(0xB7) * 1
        + device_program.instruction(0x95)
    ),
    "denies everything": lambda: device_program.instruction(0xB7, immediate=0) + device_program.instruction(0x95),
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_only_program_may_be_anothers(unified, other, tally):
    """Hidden altogether, and not what the runtime makes of config.json: it stays as it is, and the start fails."""

    def scenario():
        with process_in(f"hidden-other-{os.getpid()}") as (pid, made):
            attach(made[-1], OTHERS[other](), bpf.ALLOW_MULTI)
            refused(cgroup.find(pid), (*NOTHING, FUSE_RULE))

    with sysctl("net/core/bpf_jit_harden", "2"), sysctl("kernel/kptr_restrict", "2"):
        inside(unified.host, scenario)
    tally.count()


@pytest.mark.parametrize("flags", [0, bpf.ALLOW_OVERRIDE], ids=["single", "override"])
def test_a_program_attached_in_another_way_is_anothers(unified, flags, tally):
    def scenario():
        with process_in(f"hidden-flags-{os.getpid()}") as (pid, made):
            attach(made[-1], like_runc(), flags)
            refused(cgroup.find(pid), NOTHING)

    with sysctl("net/core/bpf_jit_harden", "2"), sysctl("kernel/kptr_restrict", "2"):
        inside(unified.host, scenario)
    tally.count()


def test_a_start_on_a_hardened_host(unified, make_bundle, hidden, tally):
    """The whole hook, under the runtime itself."""
    bundle = make_bundle("open=/dev/nvidia0", "open=/dev/nvidia1", "mknod=/second:195:1", "open=/second", gpus="0")
    seen = unified.run(bundle).seen()
    tally.count()
    assert (seen["open=/dev/nvidia0"], seen["open=/second"]) == ("ENXIO", "EPERM")


def test_detach_on_a_hardened_host(unified, make_bundle, hidden, tally):
    oci_gpu = Path(sys.executable).with_name("oci-gpu")
    with unified.started(make_bundle(args=("/bin/sleep", "100"), gpus="0")) as container:
        words = ("detach", container.id, "--all", "--runtime-root", unified.state_dir)
        done = unified.host.call(oci_gpu, "--config", make_bundle.host.config, *words, check=False)
        assert done.returncode == 0, done.stderr
        os.mknod(container.path("/own"), stat.S_IFCHR | 0o666, os.makedev(195, 0))
        assert container.exec("/probe", "open=/own").seen() == {"open=/own": "EPERM"}
    tally.count()
