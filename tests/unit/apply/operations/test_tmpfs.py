"""File systems of the hook's own, and what goes into them."""

from __future__ import annotations

from oci_gpu_hook.apply import status
from oci_gpu_hook.apply.journal.changes import DIRECTORY, change
from oci_gpu_hook.apply.operations import tmpfs
from oci_gpu_hook.devices.edits import GeneratedFile
from tests.unit.apply.operations.conftest import bind, own, plan

FILES = (GeneratedFile(path="/proc/driver/nvidia/params", contents=b"ModifyDeviceFiles: 0\n"),)


def test_its_files_and_what_is_mounted_in_it_leave_nothing_in_the_rootfs(container, source):
    mounts = (bind(source, "/proc/driver/nvidia/gpus/0/information"), own("/proc/driver/nvidia"))
    entry = container.give(plan(mounts=mounts, files=FILES))
    inside = container.root / "proc/driver/nvidia"
    assert container.inside("cat", str(inside / "params")) == "ModifyDeviceFiles: 0\n"
    assert container.inside("cat", str(inside / "gpus/0/information")) == "of the driver"
    assert list(inside.iterdir()) == []
    assert entry.changes == tuple(change(DIRECTORY, path) for path in ("/proc", "/proc/driver", "/proc/driver/nvidia"))


def test_nothing_can_be_written_there(container):
    container.give(plan(mounts=(own("/proc/driver/nvidia"),), files=FILES))
    options = container.inside("findmnt", "-n", "-o", "OPTIONS", str(container.root / "proc/driver/nvidia"))
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options.strip().split(","))


def test_one_that_is_unmounted_is_found_and_put_back_with_its_files(container):
    made = plan(mounts=(own("/proc/driver/nvidia"), own("/etc/nvidia")), files=FILES)
    entry = container.give(made)
    container.inside("umount", str(container.root / "proc/driver/nvidia"))
    (finding,) = container.lost(entry)
    assert (finding.kind, finding.path, finding.repairable) == ("mount", "/proc/driver/nvidia", True)
    part = status.lost_part(made, entry, [finding])
    assert part.edits.mounts == (made.edits.mounts[0],)
    container.give(part)
    assert container.lost(entry) == []
    assert "ModifyDeviceFiles" in container.inside("cat", str(container.root / "proc/driver/nvidia/params"))


def test_it_shows_its_files():
    shown = tmpfs.show(plan(mounts=(own("/proc/driver/nvidia"),), files=FILES))
    assert shown == {"files": [{"path": "/proc/driver/nvidia/params", "contents": "ModifyDeviceFiles: 0\n"}]}
