"""Which names of a specification are one device, and which are several at once, told by the numbers of nodes."""

from __future__ import annotations

import os
import random
import time

import pytest

from oci_gpu_hook.base.config.model import Config
from oci_gpu_hook.base.errors import DriverError, InvalidInput
from oci_gpu_hook.devices.cdi import devices as of_cdi
from oci_gpu_hook.devices.cdi import names
from oci_gpu_hook.devices.cdi.model import Described, Inventory
from oci_gpu_hook.devices.cdi.room import Room
from oci_gpu_hook.devices.edits import ContainerEdits, DeviceNode, NetDevice
from oci_gpu_hook.oci.image import Image
from oci_gpu_hook.request.model import Request

KIND = "amd.com/gpu"


def node(minor, major=226):
    return DeviceNode(path=f"/dev/{major}-{minor}", type="c", major=major, minor=minor)


def described(name, *minors, common=(), net=()):
    nodes = (*map(node, minors), *common)
    interfaces = tuple(NetDevice(host_interface_name=each, name="eth0") for each in net)
    return Described(name=name, file=0, edits=ContainerEdits(device_nodes=nodes, net_devices=interfaces))


def inventory(*devices, **fields):
    files = (("/etc/cdi/x.json", ContainerEdits(env=("A=1",))),)
    return Inventory(kind=KIND, directories=("/etc/cdi",), files=files, devices=devices, **fields)


def shown(*devices):
    return {
        device.name: (device.uuid.partition("=")[2], device.countable, of_cdi.native(device).names)
        for device in of_cdi.of(inventory(*devices))
    }


KFD = (node(0, 235),)


def test_names_of_one_device_are_one_and_all_is_none():
    found = shown(
        described("0", 0, 128, common=KFD),
        described("1", 1, 129, common=KFD),
        described("GPU-abc", 1, 129, common=KFD),
        described("all", 0, 128, 1, 129, common=KFD),
    )
    assert found == {
        "0": ("0", True, ("0",)),
        "1": ("GPU-abc", True, ("1", "GPU-abc")),
        "all": ("all", False, ("all",)),
    }


def test_all_of_one_device_is_that_device():
    assert shown(described("0", 0, 128), described("all", 0, 128)) == {"0": ("all", True, ("0", "all"))}


def test_what_others_contain_is_a_part_of_them():
    whole, part, other = of_cdi.of(
        inventory(described("0", 0, 128), described("0-render", 128), described("1", 1, 129))
    )
    assert (part.name, part.whole, part.countable) == ("0-render", whole.uuid, False)
    assert whole.parts == (part.uuid,)
    assert other.position == (1, -1)


def test_parts_that_make_a_whole_are_what_counts():
    """A GPU whose nodes are those of its two halves is both of them."""
    found = of_cdi.of(inventory(described("a", 1), described("b", 2), described("whole", 1, 2), described("c", 3)))
    assert [device.name for device in found if device.countable] == ["a", "b", "c"]
    (whole,) = [device for device in found if device.name == "whole"]
    assert of_cdi.native(whole).covers == (f"{KIND}=a", f"{KIND}=b")


def test_without_nodes_a_name_or_an_interface_tells():
    found = shown(described("x"), described("y"), described("e", net=["eth7"]), described("f", net=["eth7"]))
    assert set(found) == {"x", "y", "e"}
    assert found["e"][2] == ("e", "f")


def test_numbers_that_are_not_said_are_the_hosts(tmp_path):
    path = tmp_path / "node"
    if os.geteuid() == 0:
        os.mknod(path, 0o020600, os.makedev(226, 5))
        host = DeviceNode(path="/dev/x", host_path=str(path))
        said = Described(name="host", file=0, edits=ContainerEdits(device_nodes=(host,)))
        assert shown(said, described("0", 5))["host"][2] == ("host", "0")
    absent = DeviceNode(path=str(tmp_path / "absent"))
    (device,) = of_cdi.of(inventory(Described(name="a", file=0, edits=ContainerEdits(device_nodes=(absent,)))))
    assert "No such file" in device.fault
    with pytest.raises(DriverError, match="the host lacks a node of it"):
        names.resolve(KIND, ["a"], [device])


def test_any_order_of_names_is_the_same_devices():
    rows = [described(str(index), index, 128 + index, common=KFD) for index in range(6)]
    rows += [described(f"GPU-{index}", index, 128 + index, common=KFD) for index in range(6)]
    rows.append(described("all", *range(6), *range(128, 134), common=KFD))
    rng = random.Random(1)
    for _ in range(20):
        rng.shuffle(rows)
        found = [device.uuid for device in of_cdi.of(inventory(*rows)) if device.countable]
        assert sorted(found) == [f"{KIND}=GPU-{index}" for index in range(6)]


@pytest.mark.parametrize("sizes", [(1, 1), (1, 2), (2, 3)])
def test_many_devices_are_told_apart_in_time(sizes):
    """As many as the limits let through, with a node that all have, and names for all of them and for pairs."""
    rows = []
    for index in range(6000):
        size = sizes[index % 2]
        rows.append(described(str(index), *(index * 4 + part for part in range(size)), common=KFD))
    rows.append(described("all", *(minor for row in rows for minor in minors_of(row)), common=KFD))
    rows += [described(f"pair-{n}", *minors_of(rows[n]), *minors_of(rows[n + 1]), common=KFD) for n in range(0, 900, 2)]
    started = time.process_time()
    found = of_cdi.of(inventory(*rows))
    assert time.process_time() - started < 3
    assert sum(device.countable for device in found) == 6000
    assert len(of_cdi.native(found[6000]).covers) > 5000


def minors_of(row):
    return [each.minor for each in row.edits.device_nodes if each.major == 226]


def request(*devices, count=None):
    return Request(kind=KIND, devices=devices, count=count, driver_capabilities=(), source="environment")


def edits_for(asked, *granted):
    room = Room(KIND)
    found = inventory(
        described("0", 0, 128), described("1", 1, 129), described("GPU-abc", 1, 129), described("all", 0, 128, 1, 129)
    )
    every = of_cdi.of(found)
    devices = room.resolve(granted, every)
    edits = room.device_edits(asked, found, devices)
    return edits.env, [each.minor for each in edits.device_nodes]


def test_what_a_container_gets_for_names_and_counts():
    assert edits_for(request("GPU-abc"), "GPU-abc") == (("A=1",), [1, 129])
    assert edits_for(request("all"), "all") == (("A=1",), [0, 128, 1, 129])
    assert edits_for(request("0", "1"), "0", "1")[1] == [0, 128, 1, 129]
    assert edits_for(request(count=1), "1")[1] == [1, 129]
    assert edits_for(request("all"), "1")[1] == [1, 129], "of all only what was granted, as where one is excluded"


def test_excluded_devices_are_passed_over_by_all():
    found = inventory(described("0", 0), described("1", 1), described("all", 0, 1))
    every = of_cdi.of(found, (f"{KIND}=0",))
    assert [device.name for device in names.resolve(KIND, ["all"], every)] == ["1"]
    assert [device.name for device in names.resolve(KIND, ["0"], every)] == ["0"]


def test_a_name_that_no_file_has_is_told_with_what_they_have():
    found = inventory(described("0", 0), broken=("'/etc/cdi/b.yaml': is empty",), kinds=(KIND, "x.com/y"))
    with pytest.raises(InvalidInput, match=r"they have 0; 1 could not be used: '/etc/cdi/b.yaml': is empty"):
        names.served(request("7"), found, of_cdi.of(found))
    nothing = inventory(kinds=("x.com/y",))
    with pytest.raises(
        InvalidInput, match=r"no specification in /etc/cdi has devices of amd.com/gpu; they have x.com/y"
    ):
        names.served(request("7"), nothing, ())
    two = inventory(conflicts=((f"{KIND}=0", ("/a", "/b")),))
    with pytest.raises(InvalidInput, match=r"is in '/a' and '/b', so engines refuse it"):
        names.served(request("0"), two, ())


def test_what_engines_serve_is_left_to_them_with_a_warning():
    found = inventory(described("0", 0))
    served, (warning,) = names.served(request("0", "7").replace(engine_serves=True), found, of_cdi.of(found))
    assert served == ("0",)
    assert "'amd.com/gpu=7'" in warning


def test_of_two_nodes_at_one_path_the_one_that_is_hidden_is_told():
    """Engines say nothing of it, and the device is held for nothing. A node that both have is none of them."""
    both = [
        Described(name=name, file=0, edits=ContainerEdits(device_nodes=(*KFD, node(minor).replace(path="/dev/x"))))
        for name, minor in (("a", 0), ("b", 1))
    ]
    found = inventory(*both)
    request = Request(kind=KIND, devices=("a", "b"), driver_capabilities=(), source="annotations")
    made = Room(KIND).contribution(request, found, of_cdi.of(found), Image(libc="", library_directory=""), Config())
    assert [(each.path, each.minor) for each in made.edits.device_nodes] == [("/dev/235-0", 0), ("/dev/x", 1)]
    assert made.warnings == (
        "'/dev/x' is a node of amd.com/gpu=b in the container, and not the different one of amd.com/gpu=a",
    )
