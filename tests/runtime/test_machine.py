"""The harness itself: what the machine offers, and that the probe tells granted from refused without any hook."""

from __future__ import annotations

import subprocess
import tempfile

import pytest

from tests.runtime import bundle as bundles
from tests.runtime import machine as machines
from tests.runtime import rootfs as images
from tests.runtime.host import Host

GRANTED = {"allow": True, "type": "c", "major": 195, "minor": 0, "access": "rw"}


@pytest.mark.parametrize("variant", machines.VARIANTS)
def test_variant_is_offered(machine, variant):
    if variant in machine.unavailable:
        binary, layout = machines.VARIANTS[variant]
        pytest.skip(f"{binary} on cgroup {layout[:2]}: {machine.unavailable[variant]}")
    assert variant in machine.runtimes


def test_a_node_is_refused_by_the_cgroup_unless_a_rule_allows_it(runtime, machine, directory):
    for name, rules, expected in (
        ("plain", (bundles.NO_DEVICES,), "EPERM"),
        ("ruled", (bundles.NO_DEVICES, GRANTED), "ENXIO"),
    ):
        (directory / name).mkdir()
        images.copy(machine.image("empty"), directory / name / "rootfs")
        bundle = bundles.make(directory / name, ["/probe", "mknod=/dev/mine:195:0", "open=/dev/mine"], devices=rules)
        seen = runtime.run(bundle).seen()
        assert seen == {"mknod=/dev/mine:195:0": "made", "open=/dev/mine": expected}


@pytest.mark.parametrize("user_namespace", [False, True], ids=["plain", "userns"])
@pytest.mark.parametrize("variant", ["debian", "rhel", "no-cache", "musl"])
def test_an_image_loads_its_own_libraries_and_no_driver(runtime, machine, directory, variant, user_namespace):
    root = images.copy(machine.image(variant), directory / "rootfs")
    if user_namespace:
        images.shift(root, bundles.FIRST_ID)
    bundle = bundles.make(
        directory, ["/probe", "dlopen=libm.so.6", "dlopen=libcuda.so.1"], user_namespace=user_namespace
    )
    seen = runtime.run(bundle).seen()
    assert seen["dlopen=libm.so.6"].startswith("/")  # musl's loader is its own libm
    assert not seen["dlopen=libcuda.so.1"].startswith("/")


def test_a_started_container_can_be_looked_into(runtime, machine, directory):
    images.copy(machine.image("debian"), directory / "rootfs")
    with runtime.started(bundles.make(directory, ["/bin/sleep", "60"])) as container:
        assert container.state()["status"] == "running"
        assert container.exec("/probe", "open=/dev/null").seen() == {"open=/dev/null": "opened"}
        assert (container.path("/etc/debian_version")).read_text().strip()
        assert runtime.host.cgroups_named(container.id)
    assert not runtime.host.cgroups_named(container.id)


def test_a_mount_left_on_the_host_is_noticed(runtime, directory):
    before = runtime.host.mounts()
    runtime.host.call("mount", "-t", "tmpfs", "none", directory)
    try:
        assert runtime.host.mounts() != before
    finally:
        runtime.host.call("umount", directory)
    assert runtime.host.mounts() == before
    assert subprocess.run(["mountpoint", "-q", directory], check=False).returncode != 0


def test_what_another_run_has_mounted_on_the_machine_is_not_this_hosts(directory):
    """As a benchmark mounts its bed. Whoever removes a mountpoint takes the mount away in all namespaces."""
    bed = tempfile.mkdtemp(prefix="oci-gpu-hook-bench-", dir="/var/tmp")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", bed], check=True)
    try:
        host = Host(directory, "v2")
        before = host.mounts()
    finally:
        subprocess.run(["umount", bed], check=True)
        subprocess.run(["rmdir", bed], check=True)
    assert host.mounts() == before
    host.close()
