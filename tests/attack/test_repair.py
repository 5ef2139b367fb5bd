"""`oci-gpu repair` works in a container that runs, and whose root renames its files while it does.

A mount that shows what the host has deleted must be taken away before it can be replaced. The container's root chooses
what lies at the path of one of the hook's mounts, at each moment anew: here a volume whose source is gone, so that it
looks like a stale mount of the hook's, and a mount of the runtime's that confines the container.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from oci_gpu_hook.base import mount_table
from tests.attack.test_races import Swapper
from tests.runtime.host import tree

CONFINING = {b"/proc/sys", b"/sys", b"/proc"}
PROGRAMS = (
    *("nvidia-smi", "nvidia-debugdump", "nvidia-persistenced", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server"),
)
_REPAIRS = {False: 20, True: 300}


def points(container) -> set[bytes]:
    table = Path(f"/proc/{container.pid}/mountinfo").read_bytes()
    return {point for _, _, _, _, point, _ in mount_table.mounts(table)}


def repair(runtime, simulated, container):
    path = Path(sys.executable).with_name("oci-gpu")
    done = runtime.host.call(path, "--config", simulated.config, "repair", container.id, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    return done


@pytest.fixture
def volume(directory):
    path = directory / "volume"
    path.mkdir()
    return path


def bind(source, destination):
    return {"destination": destination, "source": str(source), "type": "bind", "options": ["rbind", "rprivate"]}


@pytest.mark.race
@pytest.mark.parametrize("confining", ["/proc/sys", "/sys"])
def test_repair_unmounts_nothing_that_the_container_chooses(
    runc, make_bundle, simulated, volume, canary, tally, full, confining
):
    volumes = [volume / name for name in PROGRAMS]
    for each in volumes:
        each.mkdir()
    mounts = tuple(bind(each, f"/volumes/{each.name}") for each in volumes)
    bundle = make_bundle(args=("/bin/sleep", "1000"), gpus="all", mounts=mounts)
    with runc.started(bundle) as container:
        rootfs = bundle.rootfs
        (rootfs / "one").mkdir()
        (rootfs / "other").mkdir()
        for each in volumes:
            each.rmdir()  # its owner's to remove
            (rootfs / "one" / each.name).symlink_to(f"/volumes/{each.name}")
            (rootfs / "other" / each.name).symlink_to(confining)
        (rootfs / "usr/bin").rename(rootfs / "usr/was-bin")
        (rootfs / "usr/bin").symlink_to("/one")
        before = points(container)
        assert before >= CONFINING
        with Swapper([(rootfs / "one", rootfs / "other")]) as swapper:
            for _ in range(_REPAIRS[full]):
                repair(runc, simulated, container)
                tally.count()
                assert points(container) >= CONFINING, "the container is no longer confined"
        assert swapper.swaps > 1000


def test_a_volume_that_is_gone_is_not_the_hooks_to_take_away(runc, make_bundle, simulated, volume, tally):
    """No race: the path leads to the volume for as long as repair looks."""
    bundle = make_bundle(args=("/bin/sleep", "1000"), gpus="all", mounts=(bind(volume, "/volume"),))
    with runc.started(bundle) as container:
        volume.rmdir()
        (bundle.rootfs / "usr/bin").rename(bundle.rootfs / "usr/was-bin")
        (bundle.rootfs / "usr/bin").mkdir()
        (bundle.rootfs / "usr/bin/nvidia-smi").symlink_to("/volume")
        repair(runc, simulated, container)
        tally.count()
        assert b"/volume" in points(container)


def test_a_container_whose_root_is_a_volume_of_the_host_by_now(runtime, make_bundle, simulated, volume, tally):
    """Its first process has gone to live there; seen from there, the volume is a rootfs that lacks everything."""
    for name in ("bin", "dev", "etc", "usr", "proc", "lib"):
        (volume / name).mkdir()
    mounts = ({"destination": "/volume", "type": "bind", "source": str(volume), "options": ["rbind", "rw"]},)
    script = "cp /bin/busybox /volume/bin/busybox; exec chroot /volume /bin/busybox sleep 100"
    bundle = make_bundle(args=("/bin/busybox", "sh", "-c", script), gpus="0", config=simulated.config, mounts=mounts)
    with runtime.started(bundle) as container:
        give_up = time.monotonic() + 10
        while not os.path.samefile(f"/proc/{container.pid}/root", volume):
            assert time.monotonic() < give_up
            time.sleep(0.05)
        before, mounted = tree(volume), points(container)
        done = repair(runtime, simulated, container)
        tally.count()
        assert done.returncode == 1
        assert "has another root directory" in done.stderr
        assert tree(volume) == before
        assert points(container) == mounted
