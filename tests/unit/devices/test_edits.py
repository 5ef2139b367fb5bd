"""CDI's containerEdits: what is unsaid, how edits join, and their JSON form against CDI's own words."""

from __future__ import annotations

import os
import stat

import pytest

from oci_gpu_hook.base.errors import DriverError
from oci_gpu_hook.devices.compose import filled, merged, placed
from oci_gpu_hook.devices.edits import (
    ContainerEdits,
    DeviceNode,
    Hook,
    IntelRdt,
    Mount,
    NetDevice,
    groups,
)
from oci_gpu_hook.devices.json_form import edits_to_json

ALL = ContainerEdits(
    env=("A=1",),
    device_nodes=(
        DeviceNode(path="/dev/x", host_path="/dev/y", type="c", major=1, minor=0, file_mode=0, uid=0, gid=0,
                   permissions="rw"),
    ),
    net_devices=(NetDevice(host_interface_name="eth1", name="net1"),),
    mounts=(Mount(host_path="/a", container_path="/b", options=("ro", "rbind"), type="none"),),
    hooks=(Hook(hook_name="createContainer", path="/bin/x", args=("x", "-v"), env=("B=2",), timeout=5),),
    additional_gids=(44,),
    intel_rdt=IntelRdt(clos_id="a", l3_cache_schema="b", mem_bw_schema="c", schemata=("d",), enable_monitoring=True),
)  # fmt: skip


def test_every_field_of_cdi_has_its_name_in_json():
    """The names and members of specs-go/config.go, CDI 1.1.0; 0 is said, though Go would leave it out."""
    assert edits_to_json(ALL) == {
        "env": ["A=1"],
        "deviceNodes": [
            {"path": "/dev/x", "hostPath": "/dev/y", "type": "c", "major": 1, "minor": 0, "fileMode": 0,
             "permissions": "rw", "uid": 0, "gid": 0}
        ],
        "netDevices": [{"hostInterfaceName": "eth1", "name": "net1"}],
        "hooks": [
            {"hookName": "createContainer", "path": "/bin/x", "args": ["x", "-v"], "env": ["B=2"], "timeout": 5}
        ],
        "mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["ro", "rbind"], "type": "none"}],
        "intelRdt": {"closID": "a", "l3CacheSchema": "b", "memBwSchema": "c", "schemata": ["d"],
                     "enableMonitoring": True},
        "additionalGids": [44],
    }  # fmt: skip


def test_what_is_unsaid_is_left_out():
    assert edits_to_json(ContainerEdits()) == {}
    unsaid = ContainerEdits(device_nodes=(DeviceNode(path="/dev/x"),), hooks=(Hook(hook_name="poststop", path="/x"),))
    assert edits_to_json(unsaid) == {
        "deviceNodes": [{"path": "/dev/x"}],
        "hooks": [{"hookName": "poststop", "path": "/x"}],
    }


def test_merging_with_nothing_and_with_itself_changes_nothing():
    assert merged() == ContainerEdits()
    assert merged(ALL, ContainerEdits()) == merged(ContainerEdits(), ALL) == merged(ALL, ALL) == ALL


def test_of_two_edits_for_one_place_the_later_counts_in_its_own_place():
    one = ContainerEdits(
        env=("A=1", "B=1"),
        device_nodes=(DeviceNode(path="/dev/a", major=1), DeviceNode(path="/dev/b", major=1)),
        mounts=(Mount(host_path="/1", container_path="/m"), Mount(host_path="/1", container_path="/n")),
        additional_gids=(1, 2),
        intel_rdt=IntelRdt(clos_id="one"),
    )
    other = ContainerEdits(
        env=("A=2",),
        device_nodes=(DeviceNode(path="/dev/a", major=2),),
        mounts=(Mount(host_path="/2", container_path="/m"),),
        additional_gids=(2, 0, 3),  # 0 adds nothing, as in the reference
        intel_rdt=IntelRdt(clos_id="other"),
    )
    both = merged(one, other)
    assert both.env == ("B=1", "A=2")
    assert [(node.path, node.major) for node in both.device_nodes] == [("/dev/b", 1), ("/dev/a", 2)]
    assert [(mount.container_path, mount.host_path) for mount in both.mounts] == [("/n", "/1"), ("/m", "/2")]
    assert both.additional_gids == (1, 2, 3)
    assert both.intel_rdt
    assert both.intel_rdt.clos_id == "other"


def test_a_node_is_filled_from_the_host():
    node = filled(DeviceNode(path="/dev/null"), uid=5, gid=6)
    found = os.stat("/dev/null")
    assert node == DeviceNode(
        path="/dev/null", host_path="/dev/null", type="c", major=os.major(found.st_rdev),
        minor=os.minor(found.st_rdev), file_mode=stat.S_IMODE(found.st_mode), uid=5, gid=6, permissions="rwm",
    )  # fmt: skip


def test_what_is_said_stays():
    said = DeviceNode(
        path="/dev/in-the-container", host_path="/dev/null", type="u", major=1, minor=3, file_mode=0o600, uid=0, gid=0,
        permissions="none",
    )  # fmt: skip
    assert filled(said, uid=5, gid=6) == said


def test_a_node_that_says_all_of_itself_needs_no_node_on_the_host(tmp_path):
    said = DeviceNode(path=str(tmp_path / "none"), type="b", major=7, minor=0)
    assert filled(said).host_path == said.path
    assert filled(DeviceNode(path=str(tmp_path / "none"), type="p")).type == "p"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"host_path": "/nonexistent"}, "No such file"),
        ({"host_path": "/etc/passwd"}, "is not a device node"),
        ({"host_path": "/dev/null", "type": "b"}, "is of type c, but the specification says b"),
        ({"host_path": "/dev/null", "major": 2}, "has the major number 1, but the specification says 2"),
        ({"host_path": "/dev/null", "type": "c", "minor": 9}, "has the minor number 3, but the specification says 9"),
    ],
)
def test_a_node_that_contradicts_the_host_is_refused(fields, why):
    with pytest.raises(DriverError, match=why):
        filled(DeviceNode(path="/dev/x", **fields))


@pytest.mark.parametrize(
    ("mount", "why"),
    [
        (Mount(host_path="/etc", container_path="/"), "would hide all that the container has"),
        (Mount(host_path="tmpfs", container_path="/opt/..", type="tmpfs"), "would hide all that the container has"),
        (Mount(host_path="etc", container_path="/opt"), "is not a path from / on"),
        (Mount(host_path="/nonexistent", container_path="/opt"), "No such file"),
    ],
)
def test_a_mount_of_nothing_or_over_everything_is_refused(mount, why):
    """A runtime would look for a relative path in the bundle, a hook in the host's root directory."""
    with pytest.raises(DriverError, match=why):
        placed(mount)


def test_a_link_is_no_device_node(tmp_path):
    """As for CDI's library: a link may lead elsewhere by the time the container is made."""
    os.symlink("/dev/null", tmp_path / "link")
    with pytest.raises(DriverError, match="is not a device node"):
        filled(DeviceNode(path="/dev/x", host_path=str(tmp_path / "link")))


def test_groups_of_nodes_that_say_nothing_of_their_owner():
    assert groups([DeviceNode(path="/dev/x"), DeviceNode(path="/dev/y", gid=44, file_mode=0o660)]) == (44,)
