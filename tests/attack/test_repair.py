"""`oci-gpu repair` works in a container that runs, and whose root renames its files while it does.

A mount that shows what the host has deleted must be taken away before it can be replaced. The container's root chooses
what lies at the path of one of the hook's mounts, at each moment anew: here a volume whose source is gone, so that it
looks like a stale mount of the hook's, and a mount of the runtime's that confines the container.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oci_gpu_hook.admin.simulate.host import make
from oci_gpu_hook.base import mount_table
from tests.attack.test_races import Swapper
from tests.runtime.host import tree
from tests.runtime.simulated import SimulatedHost

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


@pytest.fixture
def host(directory):
    """A host of the test's own, whose driver files it may replace."""
    return SimulatedHost(Path(make(str(directory / "host"), gpus=2).directory))


def as_root_of_the_host(container, *arguments: str) -> None:
    """Do something with the container's files that its own processes may not."""
    namespace = ["nsenter", f"--mount=/proc/{container.pid}/ns/mnt", f"--root=/proc/{container.pid}/root", "--"]
    subprocess.run([*namespace, "/bin/busybox", *arguments], check=True, capture_output=True)


def replace_on_host(host: SimulatedHost, path: str) -> None:
    """Delete a driver file and put an equal one in its place, as a package manager does: mounts of it are stale."""
    file = Path(f"{host.driver_root}{path}")
    shutil.copy2(file, f"{file}.new")
    os.rename(f"{file}.new", file)


def mounted(container) -> list[str]:
    """Return the mount points of a container, with `ro` or `rw` before each."""
    rows = [line.split() for line in Path(f"/proc/{container.pid}/mountinfo").read_text().split("\n") if line]
    return [f"{row[5].split(',')[0]} {row[4]}" for row in rows]


TOOL = "/usr/bin/nvidia-smi"


def test_a_mount_that_is_not_the_hooks_stays(runc, make_bundle, host, tally):
    """Whatever stands where the hook had mounted something, and however stale: only the hook's own goes."""
    with runc.started(make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)) as container:
        as_root_of_the_host(container, "touch", "/tmp/another")
        as_root_of_the_host(container, "mount", "--bind", "/tmp/another", TOOL)
        as_root_of_the_host(container, "rm", "/tmp/another")
        before = mounted(container)
        done = repair(runc, host, container)
        tally.count()
        assert TOOL not in done.stdout
        assert set(before) <= set(mounted(container))


def test_mounts_of_a_hook_that_did_not_write_down_which_they_are(runc, make_bundle, host, tally):
    with runc.started(make_bundle(args=("/bin/sleep", "100"), gpus="0", config=host.config)) as container:
        (path,) = (host.state_dir / "containers").glob(f"{container.id}*.json")
        entry = json.loads(path.read_text())
        entry.pop("mounted")
        path.write_text(json.dumps(entry))
        before = mounted(container)
        replace_on_host(host, TOOL)
        done = repair(runc, host, container)
        tally.count()
        assert done.returncode == 1
        assert f"'{TOOL}'" in done.stderr
        assert "restart the container" in done.stderr
        assert mounted(container) == before
        as_root_of_the_host(container, "umount", TOOL)
        assert repair(runc, host, container).returncode == 0, "what is missing is put back, and then known"
        replace_on_host(host, TOOL)
        assert repair(runc, host, container).returncode == 0
        assert sorted(mounted(container)) == sorted(before)
