"""Where a plan's things land in a rootfs that has something there already."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from oci_gpu_hook.apply import preflight
from oci_gpu_hook.apply.materialize import Materializing
from oci_gpu_hook.apply.mounts import Sources
from oci_gpu_hook.apply.rootfs.directory import Directories
from oci_gpu_hook.apply.rootfs.rootfs import Rootfs
from oci_gpu_hook.base.errors import UnsafeRootfs
from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


def place(root, paths):
    """Place nodes of /dev/null in a rootfs that is a volume of the host from its top; return what is to be mounted."""
    nodes = tuple(
        DeviceNode(path=path, host_path="/dev/null", major=1, minor=3, file_mode=0o666, uid=0, gid=0) for path in paths
    )
    plan: Any = SimpleNamespace(edits=ContainerEdits(device_nodes=nodes), links=(), files=())
    with Rootfs(os.open(root, os.O_PATH | os.O_DIRECTORY), own_mounts=lambda _: frozenset()) as rootfs:
        rootfs.mount_id = -1  # all that is looked at lies in another mount, which is none of the container's own
        rootfs._own_mounts = frozenset({-1})
        with Directories(rootfs) as directories, Sources() as sources:
            seen = preflight.look(plan, rootfs, directories)
            with Materializing(rootfs, directories, seen.absent, sources, user_namespace=False) as made:
                made.make(plan)
                return [path for _, _, path in made.attachments]


def test_a_node_is_bound_onto_an_empty_file_of_a_volume(tmp_path):
    """Which makes nothing there: an engine within an engine leaves such files in /dev."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/null").touch()
    assert place(tmp_path, ["/dev/null"]) == ["/dev/null"]


def test_a_node_is_not_made_in_a_volume(tmp_path):
    (tmp_path / "dev").mkdir()
    with pytest.raises(UnsafeRootfs, match="is a volume of the host"):
        place(tmp_path, ["/dev/null"])
    assert os.listdir(tmp_path / "dev") == []
