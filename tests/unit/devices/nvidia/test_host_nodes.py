"""Device nodes are looked at each time, and told with who would use them."""

from __future__ import annotations

import os

import pytest

from oci_gpu_hook.devices.nvidia import for_request, snapshot
from oci_gpu_hook.request.model import Request
from tests.unit.devices.nvidia import driver_trees as trees

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="device nodes and other owners need root")
pytestmark = pytest.mark.usefixtures("x86_64")


@needs_root
def test_nodes_are_looked_at_each_time(host, tmp_path, discoveries):
    for name, minor in (("nvidiactl", 255), ("nvidia0", 0), ("nvidia1", 1)):
        os.mknod(tmp_path / "dev/dev" / name, 0o020600, os.makedev(195, minor))
    found = {node.path: node for node in snapshot.load(host).nodes}
    assert list(found) == ["/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia1"]
    assert found["/dev/nvidia1"].host_path == f"{tmp_path}/dev/dev/nvidia1"
    assert (found["/dev/nvidia1"].major, found["/dev/nvidia1"].minor, found["/dev/nvidia1"].mode) == (195, 1, 0o600)
    os.chmod(tmp_path / "dev/dev/nvidia1", 0o666)
    os.chown(tmp_path / "dev/dev/nvidia1", 0, 44)
    os.unlink(tmp_path / "dev/dev/nvidia0")
    os.mknod(tmp_path / "dev/dev/nvidia-uvm", 0o020666, os.makedev(510, 0))
    found = {node.path: node for node in snapshot.load(host).nodes}
    assert list(found) == ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia1"]
    assert (found["/dev/nvidia1"].mode, found["/dev/nvidia1"].gid) == (0o666, 44)
    assert found["/dev/nvidia-uvm"].capabilities == ("compute", "video")
    assert len(discoveries) == 1


def test_missing_nodes_say_who_would_use_them(host):
    assert dict(snapshot.load(host).missing_nodes) == {
        "/dev/nvidiactl": (),
        "/dev/nvidia-uvm": ("compute", "video"),
        "/dev/nvidia-uvm-tools": ("compute", "video"),
        "/dev/nvidia-modeset": ("display",),
    }


@needs_root
def test_what_is_no_device_node_is_missing(host, tmp_path):
    (tmp_path / "dev/dev/nvidia0").mkdir()
    trees.write(str(tmp_path / "dev/dev/nvidiactl"))
    os.mknod(tmp_path / "dev/dev/nvidia1", 0o060600, os.makedev(195, 1))
    assert snapshot.load(host).nodes == ()


@needs_root
def test_nodes_of_features_come_with_their_features(host, tmp_path):
    names = ("nvidia-fs0", "nvidia-fs10", "nvidia-fs2", "nvidia-fsx", "infiniband/uverbs0", "infiniband/rdma_cm",
             "nvidia-nvswitchctl", "nvidia-nvswitch0", "gdrdrv")  # fmt: skip
    (tmp_path / "dev/dev/infiniband").mkdir()
    for name in names:
        os.mknod(tmp_path / "dev/dev" / name, 0o020666, os.makedev(240, 0))
    assert [(node.path, node.capabilities) for node in snapshot.load(host).nodes] == [
        ("/dev/nvidia-fs0", ("gds",)),
        ("/dev/nvidia-fs2", ("gds",)),
        ("/dev/nvidia-fs10", ("gds",)),
        ("/dev/infiniband/uverbs0", ("mofed",)),
        ("/dev/infiniband/rdma_cm", ("mofed",)),
        ("/dev/nvidia-nvswitchctl", ("nvswitch",)),
        ("/dev/nvidia-nvswitch0", ("nvswitch",)),
        ("/dev/gdrdrv", ("gdrcopy",)),
    ]


@needs_root
def test_a_feature_that_comes_later_is_noticed(host, tmp_path):
    snapshot.load(host)
    for name in ("nvidia-fs0", "nvidia-fs1"):
        os.mknod(tmp_path / "dev/dev" / name, 0o020666, os.makedev(240, 0))
    assert [node.path for node in snapshot.load(host).nodes] == ["/dev/nvidia-fs0", "/dev/nvidia-fs1"]


@needs_root
def test_a_request_is_served_what_can_be_in_its_plan(host, tmp_path):
    for directory in ("dri", "nvidia-caps", "nvidia-caps-imex-channels"):
        (tmp_path / "dev/dev" / directory).mkdir()
    for name in ("nvidiactl", "nvidia0", "nvidia-fs0", "nvidia-modeset", "nvidia-caps/nvidia-cap1",
                 "nvidia-caps-imex-channels/channel0"):  # fmt: skip
        os.mknod(tmp_path / "dev/dev" / name, 0o020666, os.makedev(240, 0))
    trees.settle(tmp_path)
    whole = snapshot.load(host)

    def served(*capabilities, **fields):
        request = Request(driver_capabilities=capabilities, source="environment", **fields)
        found = for_request.get(request, host).inventory
        assert [node for node in whole.nodes if node in found.nodes] == list(found.nodes)
        return found

    found = served("utility")
    assert {node.path for node in found.nodes} == {"/dev/nvidiactl", "/dev/nvidia0"}
    assert served("ngx").libraries == ()
    assert not dict(found.missing_nodes)
    assert "/dev/nvidia-uvm" in dict(served("compute").missing_nodes)
    assert served("display", features=("gds",)).nodes[1:] == tuple(
        node for node in whole.nodes if node.path in ("/dev/nvidia-modeset", "/dev/nvidia-fs0", "/dev/nvidia0")
    )
    assert "/dev/nvidia-caps/nvidia-cap1" in {node.path for node in served(mig_config_devices="all").nodes}
    channel = "/dev/nvidia-caps-imex-channels/channel0"
    assert channel in {node.path for node in served(imex_channels=(0,)).nodes}
    assert snapshot.load(host) == whole
